"""Stored pictures → pictures; what is damaged says how."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

from PIL import Image

from likewise import pictures
from likewise.data.entries import DamageError, Stored
from likewise.data.fitting import SMALLEST_SIDE
from likewise.pictures import PictureError, on_white

MASK_MODES = {"1", "L", "P", "RGB"}  # with alpha it would not be clear which channel is the mask
SAME_SHAPE = 0.02  # by how much width ÷ height of a mask may differ, as rounding makes it


def read_picture(stored: Stored) -> Image.Image:
    """Upright and RGB; what is transparent becomes white.

    Raises:
        DamageError: see `check_picture`.
    """
    with _opened(stored) as picture:
        box = _checked_box(stored, picture)
        upright = pictures.decoded(picture, stored.name)
    return on_white(upright if box is None else upright.crop(box))


def read_mask(stored: Stored, size: tuple[int, int]) -> Image.Image | None:
    """The mask of a picture of `size`; None where there is none and need not be.

    Raises:
        DamageError: see `check_mask`.
    """
    if stored.optional and stored.absent:
        return None
    with _opened(stored) as mask:
        _check_mask(stored, mask, size)
        return pictures.decoded(mask, stored.name)


def check_picture(stored: Stored, decode: bool) -> tuple[int, int]:
    """Width and height, upright.

    Raises:
        DamageError: it is missing, not a picture, truncated, huge, tiny, or of a mode no photo has.
    """
    with _opened(stored) as picture:
        box = _checked_box(stored, picture)
        if decode or not pictures.ends_well(picture):
            pictures.decoded(picture, stored.name)
        if box is not None:
            return box[2] - box[0], box[3] - box[1]
        return picture.size[::-1] if _is_on_its_side(picture) else picture.size


def check_mask(stored: Stored, size: tuple[int, int], decode: bool) -> None:
    """As `check_picture`, for the mask of a picture of `size`.

    Raises:
        DamageError: as there, or it has another shape than its picture.
    """
    if stored.optional and stored.absent:
        return
    with _opened(stored) as mask:
        _check_mask(stored, mask, size)
        if decode or not pictures.ends_well(mask):
            pictures.decoded(mask, stored.name)


@contextmanager
def _opened(stored: Stored) -> Iterator[Image.Image]:
    """The picture with its header read; within this context, what is wrong with it is damage.

    Raises:
        DamageError: it is missing, not a picture, or huge.
    """
    try:
        with _stream(stored) as stream, pictures.opened(stream, stored.name) as picture:
            yield picture
    except PictureError as error:
        raise DamageError(error.what, error.detail) from error


def _stream(stored: Stored) -> BinaryIO:
    try:
        if stored.file is not None:
            return open(stored.file, "rb")
    except (OSError, ValueError) as error:
        raise DamageError("missing picture", f"{stored.name}: {_reason(error)}") from error
    if stored.content is None:
        raise DamageError("missing picture", f"{stored.name} is null")
    return io.BytesIO(stored.content)


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)


def _is_on_its_side(picture: Image.Image) -> bool:
    if "exif" not in picture.info:  # else Pillow would decode a PNG to look for it at the end
        return False
    try:
        return picture.getexif().get(0x0112, 1) >= 5
    except Exception:  # of a damaged EXIF; decoding ignores it too
        return False


def _checked_box(stored: Stored, picture: Image.Image) -> tuple[int, int, int, int] | None:
    box = stored.box(picture.size)
    width, height = picture.size if box is None else (box[2] - box[0], box[3] - box[1])
    pictures.check_mode(picture, stored.name)
    if min(width, height) < SMALLEST_SIDE:
        text = f"{stored.name} is {width}×{height} pixels: each side must have {SMALLEST_SIDE}"
        raise DamageError("tiny picture", text)
    return box


def _check_mask(stored: Stored, mask: Image.Image, size: tuple[int, int]) -> None:
    if mask.mode not in MASK_MODES:
        text = f"mask {stored.name} has mode {mask.mode}: save it in grey, white on the subject"
        raise DamageError("wrong mode", text)
    if abs(mask.width * size[1] / (mask.height * size[0]) - 1) > SAME_SHAPE:
        raise DamageError(
            "mask does not fit",
            f"{stored.name} is {mask.width}×{mask.height}, its picture {size[0]}×{size[1]}",
        )
