"""A manifest: a file with one task per line, as JSON; images lie beside it.

    {"id": "dog-1", "prompt": "a dog on a beach", "references": ["dog/0.jpg"]}

Beside these three a line may have `masks` (one per reference, or null; white on the subject),
`heldout_references` (further photos, never shown to the generator), `subject`, `class`, `category`,
`kind`, `complexity`. Paths are relative to the file's folder and stay in it. Rows without a
subject are about one subject where their first references are one file.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, FailFast, Field

from likewise.config.data import Jsonl
from likewise.data.sources.entries import (
    DamageError,
    Entry,
    Problem,
    Stored,
    checked_prompt,
    inside,
)
from likewise.data.sources.spans import line_spans, parse, read_spans

MOST_REFERENCES = 64  # of one task; policies take ten at most
MOST_PHOTOS = 1024
Text = Annotated[str, Field(min_length=1)]


class Row(BaseModel):
    """One line.

    Attributes:
        ALIASES: What other programs call a field → the field, for hints. Their meaning differs
            (Hugging Face's `file_name` is the image that `text` describes), so they are not read.
    """

    model_config = ConfigDict(extra="forbid", strict=True)

    ALIASES: ClassVar[Mapping[str, str]] = {
        **dict.fromkeys(("text", "caption", "instruction"), "prompt"),
        **dict.fromkeys(
            ("file_name", "image", "images", "image_path", "input_image", "reference"), "references"
        ),
        **dict.fromkeys(("mask", "mask_path"), "masks"),
        **dict.fromkeys(("target", "target_image"), "heldout_references"),
        **dict.fromkeys(("class_word", "object"), "class"),
    }

    id: Text
    prompt: str
    references: Annotated[list[Text], FailFast()] = Field(min_length=1, max_length=MOST_REFERENCES)
    masks: Annotated[list[Text | None], FailFast()] = Field([], max_length=MOST_REFERENCES)
    heldout_references: Annotated[list[Text], FailFast()] = Field([], max_length=MOST_PHOTOS)
    subject: Text | None = None
    class_name: str = Field("", alias="class")
    category: str = "other"
    kind: Literal["scene", "property", "layout", "combination"] = "scene"
    complexity: int = Field(1, ge=1, le=3)


class JsonlSource:
    """Implements :class:`likewise.data.sources.entries.Source`.

    Raises:
        ValueError, OSError: there is no such file, or nothing in it.
    """

    notes: Sequence[str] = ()

    def __init__(self, settings: Jsonl) -> None:
        self.file = Path(settings.path)
        if not self.file.is_file():
            raise ValueError(f"there is no manifest {self.file}")
        self.root = os.path.abspath(self.file.parent)
        self.spans, self.numbers = line_spans(self.file)
        if not len(self.spans):
            raise ValueError(f"{self.file} is empty: it needs one line per task")

    def __len__(self) -> int:
        return len(self.spans)

    def entries(self, start: int, stop: int, content: bool) -> Iterator[Entry | Problem]:
        lines = read_spans(self.file, self.spans[start:stop])
        for row, line in enumerate(lines, start):
            where = f"{self.file.name}, line {self.numbers[row]}"
            try:
                yield self._entry(row, where, line)
            except DamageError as damage:
                yield Problem(row, where, damage.what, damage.detail)

    def _entry(self, row: int, where: str, line: bytes) -> Entry:
        found = parse(line.strip(), Row)
        if len(found.masks) > len(found.references):
            raise DamageError("bad field", "masks: more than references")
        references = self._stored(found.references)
        return Entry(
            row=row,
            where=where,
            id=found.id,
            prompt=checked_prompt(found.prompt),
            class_name=found.class_name,
            subject=found.subject or found.references[0],
            category=found.category,
            kind=found.kind,
            complexity=found.complexity,
            references=references,
            masks=tuple(self._stored([name])[0] if name else None for name in found.masks),
            others=self._stored(found.heldout_references),
        )

    def _stored(self, names: Sequence[str]) -> tuple[Stored, ...]:
        return tuple(Stored(name, inside(self.root, name)) for name in names)
