"""Rows of a dataset before their images are opened, and what can be wrong with one.

A source is an index of rows. It tells quickly what a row asks for and where its images are, so
that datasets need not fit in memory.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from likewise.config.json_text import check_text
from likewise.images import dead_link


class DamageError(ValueError):
    """Why a row cannot be used: `what` in two or three words, and `detail`."""

    def __init__(self, what: str, detail: str) -> None:
        super().__init__(what, detail)
        self.what, self.detail = what, detail


@dataclass(frozen=True)
class Problem:
    """A row that cannot be used; `where` names it in messages."""

    row: int
    where: str
    what: str
    detail: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}: {self.detail}"


@dataclass(frozen=True)
class Stored:
    """An image that is not open yet: in a file, or as the bytes of one.

    Attributes:
        name: For messages.
        file: Absolute; None where the image is in `content`.
        content: None where it is in a file, or was not asked for.
        optional: Whether there may be no such file.
    """

    name: str
    file: str | None = None
    content: bytes | None = None
    optional: bool = False

    def box(self, size: tuple[int, int]) -> tuple[int, int, int, int] | None:
        """Which part of the stored image is meant, in pixels; None for all of it.

        Raises:
            DamageError: an image of this size does not have that part.
        """
        return None

    @property
    def absent(self) -> bool:
        """Whether it is in a file, and there is none."""
        return self.file is not None and not os.path.isfile(self.file)

    @property
    def problem(self) -> str:
        """Why it is absent, for messages."""
        return f"no file {self.name}{dead_link(Path(self.file)) if self.file else ''}"


@dataclass(frozen=True)
class Entry:
    """A task before its images are opened; what is not here is as in `likewise.types.Task`.

    Attributes:
        row: Its number in the source.
        where: Names the row in messages.
        references: At least one.
        masks: Of the references, in their order; may be fewer, or None in between.
        others: Further photos of the subject, never shown to the generator.
        family: Rows of one family are held out together; "" for the subject.
    """

    row: int
    where: str
    id: str
    prompt: str
    class_name: str
    subject: str
    category: str
    kind: str
    complexity: int
    references: tuple[Stored, ...]
    masks: tuple[Stored | None, ...] = ()
    others: tuple[Stored, ...] = ()
    family: str = ""

    @property
    def has_mask(self) -> bool:
        """Whether there is a mask of the first reference."""
        mask = self.masks[0] if self.masks else None
        return mask is not None and not (mask.optional and mask.absent)

    @property
    def images(self) -> tuple[Stored, ...]:
        """All but the masks."""
        return self.references + self.others

    @property
    def stored(self) -> tuple[Stored, ...]:
        """All images, masks too."""
        return self.images + tuple(mask for mask in self.masks if mask is not None)


class Source(Protocol):
    """The rows of a dataset, in an order of their own that never changes. Pickles small.

    Attributes:
        notes: Messages about what was left out on purpose.
    """

    notes: Sequence[str]

    def __len__(self) -> int:
        """Number of rows, good and bad."""
        ...

    def entries(self, start: int, stop: int, content: bool) -> Iterator[Entry | Problem]:
        """Rows `start` to `stop`, in order; no image is opened.

        Args:
            content: Whether images that are not in files of their own are needed.
        """
        ...


def inside(root: str, name: str) -> str:
    """The absolute path of a file that a dataset names, relative to its root.

    Only names count: what a link in the dataset points to may be anywhere.

    Raises:
        DamageError: it leads out of `root`, which must be absolute and normal.
    """
    path = os.path.normpath(os.path.join(root, name))
    if not path.startswith(root.rstrip(os.sep) + os.sep):
        raise DamageError("outside the folder", f"{name!r} is not in {root}")
    return path


def checked_prompt(prompt: str | None) -> str:
    """Without space around it.

    Raises:
        DamageError: nothing is left, or it is not text that a tokenizer could read.
    """
    text = (prompt or "").strip()
    if not text:
        raise DamageError("empty prompt", "say what to draw")
    try:
        check_text(text)
    except ValueError as error:
        raise DamageError("bad field", f"prompt: {error}") from None
    return text
