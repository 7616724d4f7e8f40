"""DreamBench row by row, for `data check`; training opens it whole, by `dreambench_tasks`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from likewise.config.data import DreamBench
from likewise.data.sources.dreambench import subject_words
from likewise.data.sources.dreambench_files import PROMPTS, find_root, photo_files, read_sheet
from likewise.data.sources.entries import DamageError, Entry, Problem, Stored


class DreamBenchSource:
    """Implements :class:`likewise.data.sources.entries.Source`.

    Raises:
        ValueError, FileNotFoundError: as `dreambench_tasks`, but for images and their folders.
    """

    notes: Sequence[str] = ()

    def __init__(self, settings: DreamBench) -> None:
        self.root = find_root(Path(settings.path)).absolute()
        self.sheet = read_sheet(self.root)
        subjects = self.sheet.classes
        self.rows = [words for subject in subjects for words in subject_words(self.sheet, subject)]
        self.photos = {subject: self._photos(subject) for subject in subjects}

    def __len__(self) -> int:
        return len(self.rows)

    def entries(self, start: int, stop: int, content: bool) -> Iterator[Entry | Problem]:
        for row, words in enumerate(self.rows[start:stop], start):
            where = f"{PROMPTS}, {words['id']}"
            photos = self.photos[words["subject"]]
            if isinstance(photos, DamageError):
                yield Problem(row, where, photos.what, photos.detail)
            else:
                yield Entry(row, where, **words, references=photos[:1], others=photos[1:])

    def _photos(self, subject: str) -> tuple[Stored, ...] | DamageError:
        try:
            files = photo_files(self.root, subject)
        except FileNotFoundError as error:
            return DamageError("missing image", str(error))
        return tuple(Stored(str(file.relative_to(self.root)), str(file)) for file in files)
