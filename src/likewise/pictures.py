"""Picture files, upright and RGB, whatever a camera or a painter left in them. No torch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageOps


def open_picture(file: Path) -> Image.Image:
    """A picture file, upright and RGB; what is transparent becomes white.

    Raises:
        ValueError: there is no such file, or it is not a picture that Pillow can read.
    """
    if not file.is_file():
        raise ValueError(f"there is no picture {file}")
    try:
        with Image.open(file) as opened:
            upright = ImageOps.exif_transpose(opened)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError(f"{file} is not a picture that can be read: {error}") from error
    return on_white(upright)


def on_white(picture: Image.Image) -> Image.Image:
    """RGB of any mode."""
    if picture.mode.startswith("I;16"):  # Pillow would clip instead of scale
        return Image.fromarray((np.asarray(picture) >> 8).astype(np.uint8)).convert("RGB")
    if not picture.has_transparency_data:
        return picture.convert("RGB")
    layer = picture.convert("RGBA")
    white = Image.new("RGBA", layer.size, "white")
    return Image.alpha_composite(white, layer).convert("RGB")
