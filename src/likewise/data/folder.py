"""One folder per subject: photos, prompts, and masks where there are any.

    prompts.txt            prompts about every subject, one a line, {} where its class goes
    red_teapot2/           a subject; its class is "red teapot", from the folder's name
        0.jpg 1.png …      photos; the first by name conditions, the others are held out
        masks/0.png …      optional: a photo's mask, by its name; white on the subject
        prompts.txt        optional: further prompts about this subject
        class.txt          optional: its class, where the name does not say it

Blank lines, and lines that begin with #, are no prompts. What a prompt asks for (kind, complexity)
follows from the words after the class, as on DreamBench.
"""

from __future__ import annotations

import os
import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

from likewise.config.data import Folder
from likewise.data.dreambench import kind_and_complexity
from likewise.data.dreambench_files import SUFFIXES
from likewise.data.entries import DamageError, Entry, Problem, Stored

PROMPTS, CLASS, MASKS = "prompts.txt", "class.txt", "masks"
SLOT = "{}"


@dataclass(frozen=True)
class Subject:
    """What a subject's folder holds; prompts with the line that each is in."""

    name: str
    class_name: str
    photos: Sequence[str]
    masks: dict[str, str]  # name of the photo without suffix → name of the mask's file
    prompts: Sequence[tuple[str, str]]

    @property
    def rows(self) -> int:
        """One per prompt; one that says what is missing, where something is."""
        return len(self.prompts) if self.photos else 1


class FolderSource:
    """Implements :class:`likewise.data.entries.Source`; rows go subject by subject.

    Raises:
        ValueError, OSError: there is no such folder, it has no subjects, or a text is no UTF-8.
    """

    notes: Sequence[str] = ()

    def __init__(self, settings: Folder) -> None:
        self.root, self.references = os.path.abspath(settings.path), settings.references
        if not os.path.isdir(self.root):
            raise ValueError(f"there is no folder {settings.path}")
        shared = read_prompts(Path(self.root, PROMPTS))
        folders = sorted(
            entry.name
            for entry in os.scandir(self.root)
            if entry.is_dir() and not entry.name.startswith(".")
        )
        self.subjects = [_subject(Path(self.root, name), shared) for name in folders]
        if not self.subjects:
            raise ValueError(f"{settings.path} has no folders: it needs one per subject")
        self.ends = list(accumulate(max(1, subject.rows) for subject in self.subjects))

    def __len__(self) -> int:
        return self.ends[-1]

    def entries(self, start: int, stop: int, content: bool) -> Iterator[Entry | Problem]:
        for row in range(start, stop):
            place = bisect_right(self.ends, row)
            subject = self.subjects[place]
            number = row - (self.ends[place] - max(1, subject.rows))
            where = subject.name
            try:
                if not subject.photos:
                    names = ", ".join(sorted(SUFFIXES))
                    raise DamageError("missing picture", f"no photo ({names}) of this subject")
                if not subject.prompts:
                    raise DamageError("empty prompt", f"no {PROMPTS} here or beside it has any")
                where = f"{subject.name}, {subject.prompts[number][0]}"
                yield self._entry(row, where, subject, number)
            except DamageError as damage:
                yield Problem(row, where, damage.what, damage.detail)

    def _entry(self, row: int, where: str, subject: Subject, number: int) -> Entry:
        template = subject.prompts[number][1]
        if unknown := re.search(r"\{[^}]+\}?|(?<!\{)\}", template):
            raise DamageError(
                "bad field", f"{unknown[0]!r} in a prompt: the slot of the class is {{}}"
            )
        kind, complexity = kind_and_complexity(template) if SLOT in template else ("scene", 1)
        folder = os.path.join(self.root, subject.name)
        photos = [_stored(folder, name) for name in subject.photos]
        stems = [os.path.splitext(name)[0] for name in subject.photos[: self.references]]
        masks = [subject.masks.get(stem) for stem in stems]
        return Entry(
            row=row,
            where=where,
            id=f"{subject.name}-{number:03d}",
            prompt=template.replace(SLOT, subject.class_name),
            class_name=subject.class_name,
            subject=subject.name,
            category="other",
            kind=kind,
            complexity=complexity,
            references=tuple(photos[: self.references]),
            masks=tuple(_stored(folder, f"{MASKS}/{name}") if name else None for name in masks),
            others=tuple(photos[self.references :]),
        )


def read_prompts(file: Path) -> list[tuple[str, str]]:
    """Prompts with file and line; none without the file.

    Raises:
        ValueError: the file is not UTF-8.
    """
    lines = enumerate(_text(file).splitlines(), 1)
    kept = [(number, line.strip()) for number, line in lines]
    return [
        (f"{file.name} line {number}", line)
        for number, line in kept
        if line and not line.startswith("#")
    ]


def _text(file: Path) -> str:
    if not file.is_file():
        return ""
    try:
        return file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{file} is not UTF-8: {error}") from error


def _subject(folder: Path, shared: Sequence[tuple[str, str]]) -> Subject:
    plain = re.sub(r"[\s_-]*\d*$", "", folder.name)
    own = [(f"own {where}", prompt) for where, prompt in read_prompts(folder / PROMPTS)]
    return Subject(
        name=folder.name,
        class_name=_text(folder / CLASS).strip() or re.sub(r"[\s_-]+", " ", plain),
        photos=_pictures(folder),
        masks={os.path.splitext(name)[0]: name for name in _pictures(folder / MASKS)},
        prompts=[*shared, *own],
    )


def _pictures(folder: Path) -> list[str]:
    if not folder.is_dir():
        return []
    names = (entry.name for entry in os.scandir(folder) if entry.is_file())
    return sorted(name for name in names if os.path.splitext(name)[1].lower() in SUFFIXES)


def _stored(folder: str, name: str) -> Stored:
    return Stored(f"{os.path.basename(folder)}/{name}", os.path.join(folder, name))
