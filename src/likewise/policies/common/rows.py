"""Encoded tasks, one row each, as tensors whose shapes carry all that is not a number."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

Tensors = Mapping[str, Tensor]  # by name, without batch dimension
Device = torch.device | str


@dataclass(frozen=True, eq=False)
class Row:
    """One task.

    Attributes:
        text: The prompt.
        references: Each reference image, in the task's order.
        unwanted: The negative prompt of classifier-free guidance; None without.
    """

    text: Tensors
    references: tuple[Tensors, ...]
    unwanted: Tensors | None = None

    @property
    def shapes(self) -> tuple[object, ...]:
        """Equal for rows that can share a forward."""
        return tuple(_shapes(part) for part in (self.text, *self.references, self.unwanted or {}))

    @property
    def text_fits_unwanted(self) -> bool:
        """Whether both prompts can share a forward."""
        return self.unwanted is not None and _shapes(self.text) == _shapes(self.unwanted)

    def to(self, device: Device) -> Row:
        def moved(part: Tensors) -> Tensors:
            return {name: value.to(device) for name, value in part.items()}

        unwanted = None if self.unwanted is None else moved(self.unwanted)
        return Row(moved(self.text), tuple(map(moved, self.references)), unwanted)


@dataclass(frozen=True, eq=False)
class Rows:
    """Implements :class:`likewise.protocols.Condition`.

    Repeated rows are the same object, so a group costs the memory of one task (T5's states of one
    prompt are 4 MB at full scale); they are stacked only inside a forward.
    """

    rows: tuple[Row, ...]

    def __len__(self) -> int:
        return len(self.rows)

    def repeat(self, times: int) -> Rows:
        if times < 1:
            raise ValueError(f"times must be at least 1, not {times}")
        return Rows(tuple(row for row in self.rows for _ in range(times)))

    def select(self, rows: slice | Sequence[int]) -> Rows:
        chosen = range(len(self))[rows] if isinstance(rows, slice) else rows
        return Rows(tuple(self.rows[row] for row in chosen))

    def to(self, device: Device) -> Rows:
        moved = {id(row): row.to(device) for row in {id(row): row for row in self.rows}.values()}
        return Rows(tuple(moved[id(row)] for row in self.rows))

    def alike(self) -> list[list[int]]:
        """Row numbers grouped by shapes, in order of first appearance.

        Only such rows share a forward: a model takes one set of position ids per batch, and padding
        shorter rows would let a row's numbers depend on its neighbours.
        """
        groups: dict[tuple[object, ...], list[int]] = {}
        for number, row in enumerate(self.rows):
            groups.setdefault(row.shapes, []).append(number)
        return list(groups.values())


def stacked(parts: Sequence[Tensors], name: str) -> Tensor:
    """One tensor of each part, with a batch dimension: [b, …]."""
    return torch.stack([part[name] for part in parts])


def by_rows(
    x: Tensor, condition: Rows, forward: Callable[[slice | list[int], Sequence[Row]], Tensor]
) -> Tensor:
    """What `forward` gives for every row of x, in x's order; rows that are alike go together.

    Args:
        forward: Called with places in the batch, and the rows there: [b, …].
    """
    groups = condition.alike()
    if len(groups) == 1:
        return forward(slice(None), condition.rows)
    parts = [forward(group, [condition.rows[row] for row in group]) for group in groups]
    order = torch.tensor([row for group in groups for row in group], device=x.device)
    return torch.cat(parts)[order.argsort()]


def _shapes(part: Tensors) -> tuple[object, ...]:
    # Sorted, since what comes from disk is in another order than what was just encoded.
    return tuple((name, tuple(value.shape)) for name, value in sorted(part.items()))
