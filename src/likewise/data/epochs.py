"""A finite list as an endless stream."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Generic, TypeVar

from likewise.seeding import derive_seed

T = TypeVar("T")


@dataclass(frozen=True)
class Epochs(Generic[T]):
    """Epoch after epoch, each in its own order. Of tasks, it is a `protocols.TaskStream`.

    Attributes:
        tasks: At least one: tasks, or numbers by which they can be opened.
        seed: Of the orders.
    """

    tasks: Sequence[T]
    seed: int

    def __call__(self, index: int, after: int = 0) -> T:
        """Task `index` ≥ 0, or the one so many positions `after` it in the same epoch's order."""
        epoch, position = divmod(index, len(self.tasks))
        order = _order(len(self.tasks), self.seed, epoch)
        return self.tasks[order[(position + after) % len(order)]]


@lru_cache(maxsize=4)
def _order(count: int, seed: int, epoch: int) -> tuple[int, ...]:
    import torch  # not above: looking at data needs none

    generator = torch.Generator().manual_seed(derive_seed("epoch", seed, epoch))
    return tuple(torch.randperm(count, generator=generator).tolist())
