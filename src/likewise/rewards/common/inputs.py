"""What every image reward does first: check its input, preprocess it, work in batches."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import TypeVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from likewise.types import Task

BATCH_SIZE = 64
IMAGENET_MEAN = np.array([0.485, 0.456, 0.406], dtype=np.float32)
IMAGENET_STD = np.array([0.229, 0.224, 0.225], dtype=np.float32)
BLANK = Image.new("RGB", (64, 64), "grey")  # to try a model out
T = TypeVar("T")


def check_images(images: Sequence[object], what: str = "image") -> None:
    """Raise ValueError, naming index and mode, unless every one is an RGB PIL image."""
    for index, image in enumerate(images):
        if not isinstance(image, Image.Image):
            raise ValueError(f"{what} {index} is not a PIL image but {type(image).__name__}")
        if image.mode != "RGB":
            raise ValueError(f"{what} {index} has mode {image.mode!r}; convert it to 'RGB' first")


def check_tasks(images: Sequence[Image.Image], tasks: Sequence[Task]) -> None:
    """Raise ValueError unless there are as many tasks as (RGB) images."""
    if len(images) != len(tasks):
        raise ValueError(f"{len(images)} images but {len(tasks)} tasks: give one task per image")
    check_images(images)


def dreambench_pixels(images: Sequence[Image.Image], side: int) -> Tensor:
    """DINO's preprocessing on DreamBench, whatever its checkpoint's processor does.

    Resize the shorter side to 256 pixels (for another `side` than 224 in proportion), bicubic and
    antialiased as PIL does; crop the middle; normalise with ImageNet's mean and deviation. Lengths
    and corners round as torchvision's ``Resize`` and ``CenterCrop`` do.

    Args:
        images: RGB, of any sizes.
        side: Of the model's square input, in pixels.

    Returns:
        float32 [B, 3, side, side] on the CPU.
    """
    pixels = [np.asarray(_middle(image, side), dtype=np.float32) / 255 for image in images]
    normal = (np.stack(pixels) - IMAGENET_MEAN) / IMAGENET_STD
    return torch.from_numpy(normal).permute(0, 3, 1, 2).contiguous()


def _middle(image: Image.Image, side: int) -> Image.Image:
    shorter = round(side * 256 / 224)
    width, height = (int(shorter * length / min(image.size)) for length in image.size)
    left, top = round((width - side) / 2), round((height - side) / 2)
    resized = image.resize((width, height), Image.Resampling.BICUBIC)
    return resized.crop((left, top, left + side, top + side))


def in_batches(
    items: Sequence[T], encode: Callable[[Sequence[T]], Tensor], width: int = 0
) -> Tensor:
    """`encode` applied to BATCH_SIZE items at a time: float32 [N, D] on the CPU.

    `width` is D for no items at all, where there is no output to tell.
    """
    parts = [encode(part).float().cpu() for part in in_parts(items, BATCH_SIZE)]
    return torch.cat(parts) if parts else torch.zeros(0, width)


def in_parts(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """`size` items at a time, in order; the last part may have fewer."""
    return (items[start : start + size] for start in range(0, len(items), size))


def embed_distinct(
    items: Sequence[T],
    embed: Callable[[Sequence[T]], Tensor],
    key: Callable[[T], Hashable] = id,
) -> Tensor:
    """`embed` of every item, [B, D], where items of one `key` are embedded once.

    A group's tasks share reference and prompt. The key is the object itself unless told otherwise:
    to compare images costs more than it may save.
    """
    first = {key(item): item for item in items}
    index_of = {each: index for index, each in enumerate(first)}
    return embed(list(first.values()))[[index_of[key(item)] for item in items]]
