"""Stored pictures → pictures; what is damaged says how.

Pillow's limit on pixels holds (`Image.MAX_IMAGE_PIXELS`, 89 million): a small file can claim to be
a picture that fills the memory.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

from PIL import Image, ImageOps, UnidentifiedImageError

from likewise.data.entries import DamageError, Stored
from likewise.data.fitting import SMALLEST_SIDE
from likewise.pictures import on_white

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")  # others may run programs, as EPS
MODES = {"1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "CMYK", "YCbCr"}
MODES |= {"I;16", "I;16B", "I;16L"}
MASK_MODES = {"1", "L", "P", "RGB"}  # with alpha it would not be clear which channel is the mask
SAME_SHAPE = 0.02  # by how much width ÷ height of a mask may differ, as rounding makes it

# What the end of an intact file holds; after a file without it, only decoding can tell.
_ENDS = {"JPEG": b"\xff\xd9", "MPO": b"\xff\xd9", "PNG": b"IEND"}
_TAIL = 4096  # bytes; some writers append a few of their own


def read_picture(stored: Stored) -> Image.Image:
    """Upright and RGB; what is transparent becomes white.

    Raises:
        DamageError: see `check_picture`.
    """
    with _opened(stored) as picture:
        box = _checked_box(stored, picture)
        upright = _decoded(stored, picture)
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
        return _decoded(stored, mask)


def check_picture(stored: Stored, decode: bool) -> tuple[int, int]:
    """Width and height, upright.

    Raises:
        DamageError: it is missing, not a picture, truncated, huge, tiny, or of a mode no photo has.
    """
    with _opened(stored) as picture:
        box = _checked_box(stored, picture)
        if decode or not _ends_well(stored, picture):
            _decoded(stored, picture)
        if box is not None:
            return box[2] - box[0], box[3] - box[1]
        # Without the condition, Pillow would decode a PNG to look for it at the end.
        turned = "exif" in picture.info and picture.getexif().get(0x0112, 1) >= 5  # on its side
        return picture.size[::-1] if turned else picture.size


def check_mask(stored: Stored, size: tuple[int, int], decode: bool) -> None:
    """As `check_picture`, for the mask of a picture of `size`.

    Raises:
        DamageError: as there, or it has another shape than its picture.
    """
    if stored.optional and stored.absent:
        return
    with _opened(stored) as mask:
        _check_mask(stored, mask, size)
        if decode or not _ends_well(stored, mask):
            _decoded(stored, mask)


@contextmanager
def _opened(stored: Stored) -> Iterator[Image.Image]:
    """The picture with its header read.

    Raises:
        DamageError: it is missing, not a picture, or huge.
    """
    with _stream(stored) as stream:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error", Image.DecompressionBombWarning)
                picture = Image.open(stream, formats=FORMATS)
        except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
            raise DamageError("huge picture", f"{stored.name}: {error}") from error
        except UnidentifiedImageError as error:
            if not stream.seek(0, io.SEEK_END):
                raise DamageError("truncated picture", f"{stored.name} is empty") from error
            kinds = ", ".join(FORMATS)
            raise DamageError("not a picture", f"{stored.name} is none of {kinds}") from error
        except Exception as error:  # on damaged headers, Pillow raises almost anything
            raise DamageError("truncated picture", f"{stored.name}: {error}") from error
        with picture:
            yield picture


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


def _decoded(stored: Stored, picture: Image.Image) -> Image.Image:
    try:
        picture.load()
        return ImageOps.exif_transpose(picture)
    except Exception as error:  # as above
        raise DamageError("truncated picture", f"{stored.name}: {error}") from error


def _checked_box(stored: Stored, picture: Image.Image) -> tuple[int, int, int, int] | None:
    box = stored.box(picture.size)
    width, height = picture.size if box is None else (box[2] - box[0], box[3] - box[1])
    if picture.mode not in MODES:
        raise DamageError(
            "wrong mode", f"{stored.name} has mode {picture.mode}, which no photo has"
        )
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


def _ends_well(stored: Stored, picture: Image.Image) -> bool:
    """Whether the file's end is there; False also where that cannot be seen."""
    stream: BinaryIO | None = getattr(picture, "fp", None)  # only pictures from files have one
    wanted = _ENDS.get(picture.format or "")
    if stream is None or (wanted is None and picture.format != "WEBP"):
        return False
    place = stream.tell()
    try:
        length = stream.seek(0, io.SEEK_END)
        if wanted is None:  # RIFF: the file's own length is in its header, but for 8 bytes
            stream.seek(4)
            return int.from_bytes(stream.read(4), "little") + 8 <= length
        stream.seek(max(0, length - _TAIL))
        return wanted in stream.read()
    finally:
        stream.seek(place)
