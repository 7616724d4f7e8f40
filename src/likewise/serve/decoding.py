"""Untrusted bytes → images: two formats, sizes by the header before anything is decoded."""

from __future__ import annotations

import io
import struct

from PIL import Image

PNG = b"\x89PNG\r\n\x1a\n\x00\x00\x00\x0dIHDR"
FORMATS = ("PNG", "WEBP")


def header_size(data: bytes) -> tuple[int, int]:
    """Width and height that a PNG or WebP claims to have, without a decoder's help.

    Pillow's WebP plug-in allocates the whole canvas when it opens a file, hence this.
    PNG: ISO/IEC 15948, 11.2.2; WebP: RFC 9649, 2.5 to 2.7.

    Raises:
        ValueError: the bytes are neither PNG nor WebP.
    """
    if data.startswith(PNG) and len(data) >= 24:
        return struct.unpack(">II", data[16:24])
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP" and len(data) >= 30:
        return _webp_size(data[12:16], data[20:30])
    raise ValueError("is neither PNG nor WebP")


def _webp_size(chunk: bytes, start: bytes) -> tuple[int, int]:
    if chunk == b"VP8X":
        low, high = start[4:7], start[7:10]
        return int.from_bytes(low, "little") + 1, int.from_bytes(high, "little") + 1
    if chunk == b"VP8L" and start[0] == 0x2F:
        bits = int.from_bytes(start[1:5], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if chunk == b"VP8 " and start[3:6] == b"\x9d\x01\x2a":
        width, height = struct.unpack("<HH", start[6:10])
        return width & 0x3FFF, height & 0x3FFF
    raise ValueError("is a WebP with an unknown header")


def decode(data: bytes, size: tuple[int, int]) -> Image.Image:
    """The image, which must have the size that its header claims.

    Raises:
        ValueError: the image is damaged, of another size, or an animation.
    """
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            if image.size != size:
                raise ValueError(f"is {image.size} where its header says {size}")
            if getattr(image, "n_frames", 1) != 1:
                raise ValueError("is an animation")
            image.load()
            return image.copy()
    except Exception as error:  # damaged files make Pillow raise nearly anything
        raise ValueError(f"cannot be read: {type(error).__name__}: {error}") from None
