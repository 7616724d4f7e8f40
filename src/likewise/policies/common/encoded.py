"""Encoded tasks as tensors whose shapes carry all that is not a number."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

Tensors = Mapping[str, Tensor]  # by name, without batch dimension
Device = torch.device | str


@dataclass(frozen=True, eq=False)
class EncodedTask:
    """Embeddings of one task.

    Attributes:
        text: Of the prompt.
        references: Of each reference image, in the task's order.
        negative: Of the negative prompt of classifier-free guidance; None without.
    """

    text: Tensors
    references: tuple[Tensors, ...]
    negative: Tensors | None = None

    @property
    def shapes(self) -> tuple[object, ...]:
        """Equal for tasks that can share a forward."""
        return tuple(_shapes(part) for part in (self.text, *self.references, self.negative or {}))

    @property
    def negative_fits_text(self) -> bool:
        """Whether both prompts can share a forward."""
        return self.negative is not None and _shapes(self.text) == _shapes(self.negative)

    def to(self, device: Device) -> EncodedTask:
        def moved(part: Tensors) -> Tensors:
            return {name: value.to(device) for name, value in part.items()}

        negative = None if self.negative is None else moved(self.negative)
        return EncodedTask(moved(self.text), tuple(map(moved, self.references)), negative)


@dataclass(frozen=True, eq=False)
class EncodedBatch:
    """Implements :class:`likewise.protocols.Condition`.

    Repeated tasks are the same object, so a group costs the memory of one task (T5's states of one
    prompt are 4 MB at full scale); they are stacked only inside a forward.
    """

    tasks: tuple[EncodedTask, ...]

    def __len__(self) -> int:
        return len(self.tasks)

    def repeat(self, times: int) -> EncodedBatch:
        if times < 1:
            raise ValueError(f"times must be at least 1, not {times}")
        return EncodedBatch(tuple(task for task in self.tasks for _ in range(times)))

    def select(self, indices: slice | Sequence[int]) -> EncodedBatch:
        chosen = range(len(self))[indices] if isinstance(indices, slice) else indices
        return EncodedBatch(tuple(self.tasks[index] for index in chosen))

    def to(self, device: Device) -> EncodedBatch:
        distinct = {id(task): task for task in self.tasks}
        moved = {key: task.to(device) for key, task in distinct.items()}
        return EncodedBatch(tuple(moved[id(task)] for task in self.tasks))

    def by_shape(self) -> list[list[int]]:
        """Indices grouped by the tasks' shapes, in order of first appearance.

        Only such tasks share a forward: a model takes one set of position ids per batch, and
        padding shorter ones would let a task's numbers depend on its neighbours.
        """
        groups: dict[tuple[object, ...], list[int]] = {}
        for index, task in enumerate(self.tasks):
            groups.setdefault(task.shapes, []).append(index)
        return list(groups.values())


def stacked(parts: Sequence[Tensors], name: str) -> Tensor:
    """One tensor of each part, with a batch dimension: [b, …]."""
    return torch.stack([part[name] for part in parts])


def forward_by_shape(
    x: Tensor,
    condition: EncodedBatch,
    forward: Callable[[slice | list[int], Sequence[EncodedTask]], Tensor],
) -> Tensor:
    """What `forward` gives for every sample of x, in x's order; tasks of one shape go together.

    Args:
        forward: Called with indices of samples, and the encoded task of each: [b, …].
    """
    groups = condition.by_shape()
    if len(groups) == 1:
        return forward(slice(None), condition.tasks)
    parts = [forward(group, [condition.tasks[index] for index in group]) for group in groups]
    order = torch.tensor([index for group in groups for index in group], device=x.device)
    return torch.cat(parts)[order.argsort()]


def _shapes(part: Tensors) -> tuple[object, ...]:
    # Sorted, since what comes from disk is in another order than what was just encoded.
    return tuple((name, tuple(value.shape)) for name, value in sorted(part.items()))
