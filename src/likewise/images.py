"""Image files, upright and RGB, whatever a camera or a painter left in them. No torch.

All that reads image files from outside is here, so that training, `generate`, `evaluate`
and `report` accept and refuse the same ones. Only formats that hold pixels are tried: others may
run programs, as Pillow starts Ghostscript for PostScript. Pillow's limit on pixels holds
(`Image.MAX_IMAGE_PIXELS`, 89 million): a small file can claim to fill the memory.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageOps, PngImagePlugin, UnidentifiedImageError

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
SUFFIXES = {".jpg", ".jpeg", ".jfif", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff"}
MODES = {"1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "CMYK", "YCbCr"}
MODES |= {"I;16", "I;16B", "I;16L"}

# What operating systems and archives leave beside files; names that start with a dot count too.
LITTER = {"__MACOSX", "@eaDir", "lost+found", "Thumbs.db", "desktop.ini"}

# What the end of an intact file holds; after a file without it, only decoding can tell.
_ENDS = {"JPEG": b"\xff\xd9", "MPO": b"\xff\xd9", "PNG": b"IEND"}
_TAIL = 4096  # bytes; some writers append a few of their own

# What files under an image's name often are instead: bytes, where they start, and what to do.
_IMPOSTORS = (
    (b"ftyphei", 4, "HEIC: convert it to JPEG or PNG"),
    (b"ftypmif1", 4, "HEIC or AVIF: convert it to JPEG or PNG"),
    (b"ftypavif", 4, "AVIF: convert it to JPEG or PNG"),
    (b"version https://git-lfs", 0, "a Git LFS pointer: run git lfs pull"),
    (b"\x00\x05\x16\x07", 0, "an AppleDouble file, which holds no image: delete it"),
    (b"%!PS", 0, "PostScript: convert it to PNG"),
    (b"<!", 0, "a web page or XML: download the image again"),
    (b"<html", 0, "a web page: download the image again"),
    (b"<svg", 0, "SVG: convert it to PNG"),
)

# Programs keep whole workflows and editing histories in PNGs. Pillow unpacks at most this much text
# of a chunk, by default 1 MiB, and of all chunks together 64 MiB.
PngImagePlugin.MAX_TEXT_CHUNK = PngImagePlugin.MAX_TEXT_MEMORY


class ImageError(ValueError):
    """Why an image cannot be used: `what` in two or three words, and `detail`, with its name."""

    def __init__(self, what: str, detail: str) -> None:
        super().__init__(what, detail)
        self.what, self.detail = what, detail

    def __str__(self) -> str:
        return f"{self.what}: {self.detail}"


def is_litter(name: str) -> bool:
    """Whether a file or folder is hidden, or was left by an operating system or an archive."""
    return name.startswith(".") or name in LITTER


def open_image(file: Path) -> Image.Image:
    """An image file, upright and RGB; what is transparent becomes white.

    Raises:
        ImageError: the file is missing, or not an image that can be used.
    """
    if not file.is_file():
        raise ImageError("missing image", f"there is no image {file}{dead_link(file)}")
    try:
        stream = file.open("rb")
    except OSError as error:
        raise ImageError("unreadable image", f"{file}: {error.strerror}") from error
    with stream, opened(stream, str(file)) as image:
        check_mode(image, str(file))
        return on_white(decoded(image, str(file)))


def dead_link(file: Path) -> str:
    """ " (a link to …, which is not there)", or nothing if `file` is not such a link."""
    if not file.is_symlink() or file.exists():
        return ""
    return f" (a link to {file.readlink()}, which is not there)"


@contextmanager
def opened(stream: BinaryIO, name: str) -> Iterator[Image.Image]:
    """The image with its header read.

    Args:
        name: For messages.

    Raises:
        ImageError: it is not an image of a known format, its header is damaged, or it is huge.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of odd metadata
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            image = Image.open(stream, formats=FORMATS)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageError("huge image", f"{name}: {error}") from error
    except UnidentifiedImageError as error:
        raise _unknown(stream, name) from error
    except Exception as error:  # on damaged headers, Pillow raises almost anything
        raise _damaged(error, name) from error
    with image:
        yield image


def decoded(image: Image.Image, name: str) -> Image.Image:
    """The image upright, in its own mode.

    Raises:
        ImageError: the file is damaged.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image.load()
    except Exception as error:  # as above
        raise _damaged(error, name) from error
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ImageOps.exif_transpose(image)
    except Exception:  # the pixels are intact; which way up they are meant is not known
        return image


def check_mode(image: Image.Image, name: str) -> None:
    """Raises ImageError where pixels are not what a photo has: float, 32 bits, LAB, HSV."""
    if image.mode not in MODES:
        raise ImageError(
            "wrong mode",
            f"{name} has mode {image.mode}, which no photo has: save it as 8-bit RGB",
        )


def ends_well(image: Image.Image) -> bool:
    """Whether the file's end is there; False also where that cannot be seen."""
    stream: BinaryIO | None = getattr(image, "fp", None)  # only images from files have one
    wanted = _ENDS.get(image.format or "")
    if stream is None or (wanted is None and image.format != "WEBP"):
        return False
    position = stream.tell()
    try:
        length = stream.seek(0, io.SEEK_END)
        if wanted is None:  # RIFF: the file's own length is in its header, but for 8 bytes
            stream.seek(4)
            return int.from_bytes(stream.read(4), "little") + 8 <= length
        stream.seek(max(0, length - _TAIL))
        return wanted in stream.read()
    finally:
        stream.seek(position)


def on_white(image: Image.Image) -> Image.Image:
    """RGB of any mode."""
    if image.mode.startswith("I;16"):  # Pillow would clip instead of scale
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
    if not image.has_transparency_data:
        return image.convert("RGB")
    layer = image.convert("RGBA")
    white = Image.new("RGBA", layer.size, "white")
    return Image.alpha_composite(white, layer).convert("RGB")


def _unknown(stream: BinaryIO, name: str) -> ImageError:
    stream.seek(0)
    head = stream.read(64)
    if not head:
        return ImageError("truncated image", f"{name} is empty")
    for mark, offset, what in _IMPOSTORS:
        if head[offset:].lower().startswith(mark.lower()):
            return ImageError("not an image", f"{name} is {what}")
    return ImageError("not an image", f"{name} is none of {', '.join(FORMATS)}")


def _damaged(error: Exception, name: str) -> ImageError:
    if "MAX_TEXT" in str(error) or "Too much memory used in text" in str(error):
        limit = PngImagePlugin.MAX_TEXT_MEMORY // 2**20
        text = f"{name} has more than {limit} MiB of text beside its pixels: save it without"
        return ImageError("huge metadata", text)
    return ImageError("truncated image", f"{name}: {error}")
