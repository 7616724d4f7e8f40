"""What a segmenter promises, and what a mask is: an ``L`` image, 255 on the subject."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from PIL import Image


@runtime_checkable
class Segmenter(Protocol):
    """Finds the subject in images.

    What it cannot look for (`knows`) differs from what it looked for and did not find (``None`` of
    `masks`): a reward must not score the former.
    """

    def knows(self, class_name: str) -> bool:
        """Whether it can look for that class, in any image.

        Not if its model has no label for the class, or is prompted with names and this one is
        blank. A segmenter of whatever stands out knows them all, "" too.
        """
        ...

    def masks(
        self, images: Sequence[Image.Image], class_names: Sequence[str]
    ) -> Sequence[Image.Image | None]:
        """Find in each image the class at the same position, independently of the others.

        Args:
            images: B RGB images, of any sizes.
            class_names: B plain names ("dog"), or "" where a dataset gives none; a segmenter of
                whatever stands out ignores them.

        Returns:
            B masks: ``L``, each of its image's size, 255 on the subject and 0 elsewhere (values
            between blend); ``None`` where nothing was found, or the class is not one it knows.

        Raises:
            ValueError: something is not an RGB image.
        """
        ...


def check_mask(mask: object, size: tuple[int, int], name: str = "mask") -> None:
    """Raise ValueError, beginning with `name`, unless it is an ``L`` image of that size."""
    if not isinstance(mask, Image.Image):
        raise ValueError(f"{name} is not a PIL image but {type(mask).__name__}")
    if mask.mode != "L" or mask.size != size:
        raise ValueError(
            f"{name} has mode {mask.mode!r} and size {mask.size}; wanted 'L' and the image's {size}"
        )


def is_empty(mask: Image.Image) -> bool:
    """Whether a mask shows nothing."""
    return mask.getbbox() is None


def mask_of(subject: np.ndarray) -> Image.Image | None:
    """The mask of bool [H, W], true on the subject; ``None`` if it is nowhere."""
    return Image.fromarray(np.uint8(255) * subject.astype(np.uint8)) if subject.any() else None
