"""Embed once what a batch holds several times: a group's tasks share reference and prompt."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import TypeVar

from torch import Tensor

T = TypeVar("T")


def embed_distinct(
    items: Sequence[T],
    embed: Callable[[Sequence[T]], Tensor],
    key: Callable[[T], Hashable] = id,
) -> Tensor:
    """`embed` of every item, [B, D], where items of one `key` are embedded once.

    The key is the object itself unless told otherwise: to compare images costs more than it may
    save.
    """
    first = {key(item): item for item in items}
    index_of = {each: index for index, each in enumerate(first)}
    return embed(list(first.values()))[[index_of[key(item)] for item in items]]
