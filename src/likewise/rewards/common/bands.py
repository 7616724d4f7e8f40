"""Levels of detail: what a blur leaves of an image, and what it takes away."""

from __future__ import annotations

from typing import Literal

from PIL import Image, ImageChops, ImageFilter

Band = Literal["all", "coarse", "fine"]


def banded(image: Image.Image, band: Band, blur: float) -> Image.Image:
    """One band of an RGB image, of the same size.

    Args:
        band: ``coarse`` is the image blurred: colours and shape. ``fine`` is the rest, on medium
            grey: texture, marks, edges. ``all`` is the image.
        blur: Standard deviation of the Gaussian, as a share of the shorter side.
    """
    if band == "all":
        return image
    blurred = image.filter(ImageFilter.GaussianBlur(blur * min(image.size)))
    if band == "coarse":
        return blurred
    return ImageChops.subtract(image, blurred, offset=128)  # cut off beyond ±128
