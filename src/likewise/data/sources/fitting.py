"""References in the shape and size that a policy draws. Does not import torch."""

from __future__ import annotations

from PIL import Image, ImageOps

from likewise.config.policy_sections import PolicySection
from likewise.images import on_white

LONGEST_SIDE = 1024  # pixels of a held-out photo: no encoder takes more, and services limit it
SMALLEST_SIDE = 16  # pixels of a reference; less does not show which subject is meant


def fit_reference(image: Image.Image, policy: PolicySection) -> Image.Image:
    """The middle of an image, in the shape and size that the policy draws.

    Where the policy finds a size of its own, the image is only made RGB.

    Raises:
        ValueError: a side is shorter than 16 pixels.
    """
    if min(image.size) < SMALLEST_SIDE:
        raise ValueError(
            f"the reference is {image.width}×{image.height} pixels: "
            f"each side must have at least {SMALLEST_SIDE}"
        )
    image = on_white(image)
    if policy.resizes_references:
        return image
    return ImageOps.fit(image, (policy.width, policy.height), Image.Resampling.LANCZOS)


def fit_held_out(image: Image.Image) -> Image.Image:
    """A photo that only rewards see: whole, scaled down to 1024 pixels at most."""
    image = on_white(image)
    image.thumbnail((LONGEST_SIDE, LONGEST_SIDE), Image.Resampling.LANCZOS)
    return image


def fit_mask(mask: Image.Image, size: tuple[int, int], policy: PolicySection) -> Image.Image:
    """``L``, 0 or 255, as large as what `fit_reference` makes of a reference of `size`."""
    mask = mask.convert("L").resize(size, Image.Resampling.BILINEAR)
    if not policy.resizes_references:
        mask = ImageOps.fit(mask, (policy.width, policy.height), Image.Resampling.BILINEAR)
    return mask.point(lambda level: 255 * (level >= 128))
