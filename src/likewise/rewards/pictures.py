"""What every picture reward does first: check its input, and work in batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import torch
from PIL import Image
from torch import Tensor

from likewise.types import Task

BATCH_SIZE = 64
T = TypeVar("T")


def check_pictures(images: Sequence[object], what: str = "image") -> None:
    """Raise ValueError, naming index and mode, unless every one is an RGB PIL picture."""
    for index, image in enumerate(images):
        if not isinstance(image, Image.Image):
            raise ValueError(f"{what} {index} is not a PIL picture but {type(image).__name__}")
        if image.mode != "RGB":
            raise ValueError(f"{what} {index} has mode {image.mode!r}; convert it to 'RGB' first")


def check_tasks(images: Sequence[Image.Image], tasks: Sequence[Task]) -> None:
    """Raise ValueError unless there are as many tasks as (RGB) pictures."""
    if len(images) != len(tasks):
        raise ValueError(f"{len(images)} images but {len(tasks)} tasks: one task per image, please")
    check_pictures(images)


def in_batches(
    items: Sequence[T], encode: Callable[[Sequence[T]], Tensor], width: int = 0
) -> Tensor:
    """`encode` applied to BATCH_SIZE items at a time: float32 [N, D] on the CPU.

    `width` is D for no items at all, where there is no output to tell.
    """
    parts = [encode(part).float().cpu() for part in _parts(items)]
    return torch.cat(parts) if parts else torch.zeros(0, width)


def _parts(items: Sequence[T]) -> Iterator[Sequence[T]]:
    return (items[start : start + BATCH_SIZE] for start in range(0, len(items), BATCH_SIZE))
