"""One folder per subject: photos, prompts, and masks where there are any.

    prompts.txt            prompts about every subject, one a line, {} where its class goes
    red_teapot2/           a subject; its class is "red teapot", from the folder's name
        0.jpg 1.png …      photos; the first by name conditions, the others are held out
        masks/0.png …      optional: a photo's mask, by its name; white on the subject
        prompts.txt        optional: further prompts about this subject
        class.txt          optional: its class, where the name does not say it

Hidden files and what operating systems leave (``._0.png``, ``__MACOSX``, ``Thumbs.db``) are
skipped; other files that are neither are left out, and `notes` says which.

Blank lines, and lines that begin with #, are not prompts. What a prompt asks for (kind, complexity)
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
from likewise.data.sources.dreambench import kind_and_complexity
from likewise.data.sources.dreambench_files import is_photo
from likewise.data.sources.entries import DamageError, Entry, Problem, Stored
from likewise.images import SUFFIXES, dead_link, is_litter

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
    others: Sequence[str]  # names of files that are left out

    @property
    def rows(self) -> int:
        """One per prompt; one that says what is missing, where something is."""
        return len(self.prompts) if self.photos else 1


class FolderSource:
    """Implements :class:`likewise.data.sources.entries.Source`; rows go subject by subject.

    Raises:
        ValueError, OSError: there is no such folder, it has no subjects, or a text is not UTF-8.
    """

    def __init__(self, settings: Folder) -> None:
        self.root, self.references = os.path.abspath(settings.path), settings.references
        if not os.path.isdir(self.root):
            raise ValueError(f"there is no folder {settings.path}")
        shared = read_prompts(Path(self.root, PROMPTS))
        found = _visible(Path(self.root))
        folders = [file for file in found if file.is_dir() or dead_link(file)]
        self.subjects = [_subject(folder, shared) for folder in folders]
        if not self.subjects:
            own = " (it holds photos itself: give the folder around it)" * any(map(is_photo, found))
            raise ValueError(f"{settings.path} has no folders: it needs one per subject{own}")
        aside = [file.name for file in found if file not in folders and file.name != PROMPTS]
        self.notes: Sequence[str] = [*_left_out(aside, self.subjects), *_counted(self.subjects)]
        self.ends = list(accumulate(max(1, subject.rows) for subject in self.subjects))

    def __len__(self) -> int:
        return self.ends[-1]

    def entries(self, start: int, stop: int, content: bool) -> Iterator[Entry | Problem]:
        for row in range(start, stop):
            index = bisect_right(self.ends, row)
            subject = self.subjects[index]
            number = row - (self.ends[index] - max(1, subject.rows))
            where = subject.name
            try:
                if not subject.photos:
                    raise DamageError("missing image", self._no_photo(subject))
                if not subject.prompts:
                    raise DamageError("empty prompt", f"no {PROMPTS} here or beside it has any")
                where = f"{subject.name}, {subject.prompts[number][0]}"
                yield self._entry(row, where, subject, number)
            except DamageError as damage:
                yield Problem(row, where, damage.what, damage.detail)

    def _no_photo(self, subject: Subject) -> str:
        link = dead_link(Path(self.root, subject.name))
        names = ", ".join(sorted(SUFFIXES))
        others = f", but {_some(subject.others)}" if subject.others else ""
        return f"no photo ({names}) of this subject{link}{others}"

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
    if link := dead_link(file):
        raise ValueError(f"there is no {file}{link}")
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
        photos=_photos(folder),
        masks={os.path.splitext(name)[0]: name for name in _photos(folder / MASKS)},
        prompts=[*shared, *own],
        others=_others(folder),
    )


def _visible(folder: Path) -> list[Path]:
    """All that is in a folder, by name, but litter; nothing if there is no such folder."""
    if not folder.is_dir():
        return []
    return sorted(file for file in folder.iterdir() if not is_litter(file.name))


def _photos(folder: Path) -> list[str]:
    return [file.name for file in _visible(folder) if is_photo(file)]


def _others(folder: Path) -> list[str]:
    """Files of a subject that are neither photos nor texts with a meaning, and masks likewise."""
    files = [file for file in _visible(folder) if not file.is_dir()]
    masks = [file for file in _visible(folder / MASKS) if not file.is_dir()]
    return [
        str(file.relative_to(folder))
        for file in (*files, *masks)
        if not is_photo(file) and file.name not in (PROMPTS, CLASS)
    ]


def _left_out(aside: Sequence[str], subjects: Sequence[Subject]) -> Sequence[str]:
    """A note about files that nothing reads; none if there are none."""
    names = [*aside, *(f"{one.name}/{other}" for one in subjects for other in one.others)]
    if not names:
        return ()
    kinds = ", ".join(sorted(SUFFIXES))
    count = "1 file is" if len(names) == 1 else f"{len(names)} files are"
    return (f"{count} left out, being no photos ({kinds}): {_some(names)}",)


def _counted(subjects: Sequence[Subject]) -> Sequence[str]:
    """A note about names like 10_dog, by which sd-scripts means a dog that is repeated 10 times."""
    odd = [one for one in subjects if re.match(r"\d+ ", one.class_name)]
    if not odd:
        return ()
    return (
        f"the class of {_some([one.name for one in odd])} begins with a number, as in "
        f"{odd[0].class_name!r}: if that counts repeats, say the class in {CLASS}",
    )


def _some(names: Sequence[str], most: int = 5) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _stored(folder: str, name: str) -> Stored:
    return Stored(f"{os.path.basename(folder)}/{name}", os.path.join(folder, name))
