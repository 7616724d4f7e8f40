"""What rewards return → plain numbers, without knowing which library they are made of."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from PIL import Image

from likewise.types import Task

RewardFunction = Callable[[Sequence[Image.Image], Sequence[Task]], Any]


def plain_numbers(answer: Any, count: int) -> list[float | None]:
    """One number per image, None where it is missing: None, not finite, or not valid.

    Args:
        answer: A vector (list, tuple, array or tensor) of `count` numbers or None, or the pair of
            vectors (values, valid) that :class:`likewise.protocols.Reward` returns.

    Raises:
        ValueError: `answer` is anything else.
    """
    valid: Any = None
    if isinstance(answer, tuple) and len(answer) == 2 and _is_vector(answer[0]):
        answer, valid = answer
    vectors = [answer] if valid is None else [answer, valid]
    for vector in vectors:
        if not _is_vector(vector) or len(vector) != count:
            said = f"{len(vector)} values" if _is_vector(vector) else f"a {type(vector).__name__}"
            raise ValueError(f"the reward returned {said} for {count} images: wanted one each")
    numbers = [_number(value) for value in answer]
    if valid is not None:
        pairs = zip(numbers, valid, strict=True)
        numbers = [number if bool(known) else None for number, known in pairs]
    return numbers


def _is_vector(answer: Any) -> bool:
    dimensions = getattr(answer, "ndim", 1 if isinstance(answer, list | tuple) else 0)
    return dimensions == 1


def _number(value: Any) -> float | None:
    if value is None:
        return None
    if getattr(value, "ndim", 0) or isinstance(value, str | bytes | list | tuple):
        raise ValueError(f"the reward returned a {type(value).__name__} where a number is wanted")
    number = float(value)
    return number if math.isfinite(number) else None
