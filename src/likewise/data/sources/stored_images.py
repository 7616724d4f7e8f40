"""Stored images → images; what is damaged says how."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

from PIL import Image

from likewise import images
from likewise.data.sources.entries import DamageError, Stored
from likewise.data.sources.fitting import SMALLEST_SIDE
from likewise.images import ImageError, on_white

MASK_MODES = {"1", "L", "P", "RGB"}  # with alpha it would not be clear which channel is the mask
SAME_SHAPE = 0.02  # by how much width ÷ height of a mask may differ, as rounding makes it


def read_image(stored: Stored) -> Image.Image:
    """Upright and RGB; what is transparent becomes white.

    Raises:
        DamageError: see `check_image`.
    """
    with _opened(stored) as image:
        box = _checked_box(stored, image)
        upright = images.decoded(image, stored.name)
    return on_white(upright if box is None else upright.crop(box))


def read_mask(stored: Stored, size: tuple[int, int]) -> Image.Image | None:
    """The mask of an image of `size`; None where there is none and need not be.

    Raises:
        DamageError: see `check_mask`.
    """
    if stored.optional and stored.absent:
        return None
    with _opened(stored) as mask:
        _check_mask(stored, mask, size)
        return images.decoded(mask, stored.name)


def check_image(stored: Stored, decode: bool) -> tuple[int, int]:
    """Width and height, upright.

    Raises:
        DamageError: it is missing, not an image, truncated, huge, tiny, or of a mode no photo has.
    """
    with _opened(stored) as image:
        box = _checked_box(stored, image)
        if decode or not images.ends_well(image):
            images.decoded(image, stored.name)
        if box is not None:
            return box[2] - box[0], box[3] - box[1]
        return image.size[::-1] if _is_on_its_side(image) else image.size


def check_mask(stored: Stored, size: tuple[int, int], decode: bool) -> None:
    """As `check_image`, for the mask of an image of `size`.

    Raises:
        DamageError: as there, or it has another shape than its image.
    """
    if stored.optional and stored.absent:
        return
    with _opened(stored) as mask:
        _check_mask(stored, mask, size)
        if decode or not images.ends_well(mask):
            images.decoded(mask, stored.name)


@contextmanager
def _opened(stored: Stored) -> Iterator[Image.Image]:
    """The image with its header read; within this context, what is wrong with it is damage.

    Raises:
        DamageError: it is missing, not an image, or huge.
    """
    try:
        with _stream(stored) as stream, images.opened(stream, stored.name) as image:
            yield image
    except ImageError as error:
        raise DamageError(error.what, error.detail) from error


def _stream(stored: Stored) -> BinaryIO:
    try:
        if stored.file is not None:
            return open(stored.file, "rb")
    except (OSError, ValueError) as error:
        raise DamageError("missing image", f"{stored.name}: {_reason(error)}") from error
    if stored.content is None:
        raise DamageError("missing image", f"{stored.name} is null")
    return io.BytesIO(stored.content)


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)


def _is_on_its_side(image: Image.Image) -> bool:
    if "exif" not in image.info:  # else Pillow would decode a PNG to look for it at the end
        return False
    try:
        return image.getexif().get(0x0112, 1) >= 5
    except Exception:  # of a damaged EXIF; decoding ignores it too
        return False


def _checked_box(stored: Stored, image: Image.Image) -> tuple[int, int, int, int] | None:
    box = stored.box(image.size)
    width, height = image.size if box is None else (box[2] - box[0], box[3] - box[1])
    images.check_mode(image, stored.name)
    if min(width, height) < SMALLEST_SIDE:
        text = f"{stored.name} is {width}×{height} pixels: each side must have {SMALLEST_SIDE}"
        raise DamageError("tiny image", text)
    return box


def _check_mask(stored: Stored, mask: Image.Image, size: tuple[int, int]) -> None:
    if mask.mode not in MASK_MODES:
        text = f"mask {stored.name} has mode {mask.mode}: save it in grey, white on the subject"
        raise DamageError("wrong mode", text)
    if abs(mask.width * size[1] / (mask.height * size[0]) - 1) > SAME_SHAPE:
        raise DamageError(
            "mask does not fit",
            f"{stored.name} is {mask.width}×{mask.height}, its image {size[0]}×{size[1]}",
        )
