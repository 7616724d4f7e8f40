"""A finite list of tasks as an endless stream."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch

from likewise.seeding import derive_seed
from likewise.types import Task


@dataclass(frozen=True)
class Epochs:
    """Implements :class:`likewise.protocols.TaskStream`: epoch after epoch, each in its own order.

    Attributes:
        tasks: At least one.
        seed: Of the orders.
    """

    tasks: Sequence[Task]
    seed: int

    def __call__(self, index: int) -> Task:
        epoch, place = divmod(index, len(self.tasks))
        return self.tasks[_order(len(self.tasks), self.seed, epoch)[place]]


@lru_cache(maxsize=4)
def _order(count: int, seed: int, epoch: int) -> tuple[int, ...]:
    generator = torch.Generator().manual_seed(derive_seed("epoch", seed, epoch))
    return tuple(torch.randperm(count, generator=generator).tolist())
