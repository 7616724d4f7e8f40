"""SynCD (Kumari et al., arXiv:2502.01720): sets of two or three images of one generated object.

The published folder (Hugging Face, nupurkmr9/syncd) holds ``*metadata.json``, an array of

    {"filenames": ["17/a.png", …], "prompts": ["…", …],          one prompt per image
     "category": "rigid", "category_description": "…", "objaverse_id": "…"}

with paths relative to the folder, and archives of images that its ``unzip.sh`` unpacks there. A
image's mask, positive on the object and often smaller, is ``masks/<name>.jpg`` beside it.
Sources: method/data/data.py and dataset/gen_deformable.py of github.com/nupurkmr9/syncd; the field
``category_description`` from users of the published file.

Each image makes a task: its prompt, conditioned by the next images of its set; the image
itself, which the prompt describes, is held out. Rigid objects are Objaverse's, and many sets show
the same one: all of them are held out together, by their ``objaverse_id``.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from likewise.config.data import SynCd
from likewise.data.sources.entries import (
    DamageError,
    Entry,
    Problem,
    Stored,
    checked_prompt,
    inside,
)
from likewise.data.sources.spans import array_spans, parse, read_spans
from likewise.images import is_litter

PATTERN = "*metadata.json"


class Record(BaseModel):
    """One set; keys that are not needed may be there too."""

    model_config = ConfigDict(strict=True)

    filenames: list[str] = Field(min_length=2)
    prompts: list[str]
    category: str = "other"
    category_description: str = ""
    objaverse_id: str | int | None = None

    @property
    def family(self) -> str:
        """Family of the object; empty where it is not known to be in other sets too."""
        known = self.objaverse_id not in (None, "")
        return f"objaverse {self.objaverse_id}" if known else ""


class SynCdSource:
    """Implements :class:`likewise.data.sources.entries.Source`; rows go set by set, image by image.

    Raises:
        ValueError, OSError: there is no such folder, or no metadata in it.
    """

    notes: Sequence[str] = ()

    def __init__(self, settings: SynCd) -> None:
        self.root, self.references = os.path.abspath(settings.path), settings.references
        found = Path(self.root).glob(PATTERN)
        self.files = sorted(file for file in found if not is_litter(file.name))
        if not self.files:
            raise ValueError(f"{settings.path} has no {PATTERN}: give SynCD's folder")
        scanned = [_scan(file) for file in self.files]
        self.spans = [spans for spans, _ in scanned]
        self.firsts = np.cumsum([0] + [len(spans) for spans in self.spans])  # sets before each file
        self.ends = np.cumsum(np.concatenate([counts for _, counts in scanned]))
        if not len(self.ends):
            raise ValueError(f"the metadata in {settings.path} is empty")

    def __len__(self) -> int:
        return int(self.ends[-1])

    def entries(self, start: int, stop: int, content: bool) -> Iterator[Entry | Problem]:
        while start < stop:
            number = int(np.searchsorted(self.ends, start, "right"))  # of the set, over all files
            first = int(self.ends[number - 1]) if number else 0
            end = min(stop, int(self.ends[number]))
            yield from self._images(number, first, range(start, end))
            start = end

    def _images(self, number: int, first: int, rows: range) -> Iterator[Entry | Problem]:
        """Some rows of a set, whose first is `first`."""
        index = int(np.searchsorted(self.firsts, number, "right")) - 1
        inner = number - int(self.firsts[index])
        (text,) = read_spans(self.files[index], self.spans[index][inner : inner + 1])
        where = f"{self.files[index].name}, set {inner}"
        try:
            record = _parsed(text)
        except DamageError as damage:
            yield from (Problem(row, where, damage.what, damage.detail) for row in rows)
            return
        for row in rows:
            yield self._image(row, f"{where}, image {row - first}", record, row - first)

    def _image(self, row: int, where: str, record: Record, number: int) -> Entry | Problem:
        try:
            return self._entry(row, where, record, number)
        except DamageError as damage:
            return Problem(row, where, damage.what, damage.detail)

    def _entry(self, row: int, where: str, record: Record, number: int) -> Entry:
        names = record.filenames
        turned = [*names[number + 1 :], *names[:number]][: self.references]
        subject = os.path.splitext(names[0])[0]
        return Entry(
            row=row,
            where=where,
            id=f"{subject}-{number}",
            prompt=checked_prompt(record.prompts[number]),
            class_name=record.category_description.strip(),
            subject=subject,
            category=record.category,
            kind="scene",
            complexity=1,
            references=tuple(Stored(name, inside(self.root, name)) for name in turned),
            masks=tuple(self._mask(name) for name in turned),
            others=(Stored(names[number], inside(self.root, names[number])),),
            family=record.family,
        )

    def _mask(self, name: str) -> Stored:
        folder, file = os.path.split(name)
        mask = os.path.join(folder, "masks", f"{os.path.splitext(file)[0]}.jpg")
        return Stored(mask, inside(self.root, mask), optional=True)


def _scan(file: Path) -> tuple[np.ndarray, np.ndarray]:
    """Spans of a file's sets, and rows of each: one per image; one for what is not a set."""
    counts: list[int] = []

    def count(record: object) -> None:
        names = record.get("filenames") if isinstance(record, dict) else None
        counts.append(max(1, len(names)) if isinstance(names, list) else 1)

    spans = array_spans(file, count)
    counts += [1] * (len(spans) - len(counts))
    return spans, np.array(counts, np.int64)


def _parsed(text: bytes) -> Record:
    record = parse(text, Record)
    if len(record.prompts) != len(record.filenames):
        numbers = f"{len(record.prompts)} for {len(record.filenames)} filenames"
        raise DamageError("bad field", f"prompts: {numbers}")
    return record
