"""What rewards return → plain numbers, without knowing which library they are made of."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from PIL import Image

from likewise.types import Task

RewardFunction = Callable[[Sequence[Image.Image], Sequence[Task]], Any]


def plain_numbers(answer: Any, count: int) -> list[float | None]:
    """One number per image, None where it is missing: said so, not finite, or not valid.

    Args:
        answer: A row (list, tuple, array or tensor) of `count` numbers or None, or the pair
            (values, valid) of rows that :class:`likewise.protocols.Reward` speaks of.

    Raises:
        ValueError: it is anything else.
    """
    valid: Any = None
    if isinstance(answer, tuple) and len(answer) == 2 and _is_row(answer[0]):
        answer, valid = answer
    rows = [answer] if valid is None else [answer, valid]
    for row in rows:
        if not _is_row(row) or len(row) != count:
            said = f"{len(row)} values" if _is_row(row) else f"a {type(row).__name__}"
            raise ValueError(f"the reward returned {said} for {count} images: wanted one each")
    numbers = [_number(value) for value in answer]
    if valid is not None:
        pairs = zip(numbers, valid, strict=True)
        numbers = [number if bool(known) else None for number, known in pairs]
    return numbers


def _is_row(answer: Any) -> bool:
    dimensions = getattr(answer, "ndim", 1 if isinstance(answer, list | tuple) else 0)
    return dimensions == 1


def _number(value: Any) -> float | None:
    if value is None:
        return None
    if getattr(value, "ndim", 0) or isinstance(value, str | bytes | list | tuple):
        raise ValueError(f"the reward returned a {type(value).__name__} where a number is wanted")
    number = float(value)
    return number if math.isfinite(number) else None
