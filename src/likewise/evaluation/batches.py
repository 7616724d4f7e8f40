"""Which process does which batches of an evaluation.

A system's images are cut into batches in the order of its manifest, always at the same indices. A
batch is drawn whole and scored whole, by one process, and leaves files; so results depend neither
on the number of processes nor on where an earlier call was killed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")
BatchProgress = Callable[[int, int], None]  # batches of a share that are done, and all of them


@dataclass(frozen=True)
class Share:
    """The part of process `index` among `count`: every count-th batch."""

    index: int = 0
    count: int = 1

    def batches(self, items: Sequence[T], size: int) -> list[tuple[int, Sequence[T]]]:
        """This process's batches with their numbers: `size` items each, the last maybe fewer."""
        return cut(items, size)[self.index :: self.count]


def cut(items: Sequence[T], size: int) -> list[tuple[int, Sequence[T]]]:
    """All batches with their numbers, from 0."""
    starts = range(0, len(items), size)
    return [(number, items[at : at + size]) for number, at in enumerate(starts)]


def silent(*_: object) -> None:
    """Report no progress."""
