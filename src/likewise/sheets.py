"""Contact sheets: rows of captioned images. This module does not import torch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from PIL import Image, ImageDraw

from likewise.types import Task

CAPTION_HEIGHT = 14
LETTER_WIDTH = 6


def short_caption(task: Task) -> str:
    """What the prompt constrains, in few words ("tiny red left"); else the prompt itself."""
    return " ".join(task.constraints.values()) or task.prompt


def contact_sheet(
    rows: Iterable[tuple[Sequence[str], Sequence[Image.Image]]], cell: int = 128, margin: int = 4
) -> Image.Image:
    """Rows of (captions, images), each caption above its image (cut to its width), on white.

    Args:
        cell: Side of the square that every image is fitted into, pixels.
    """
    rows = list(rows)
    columns = max(len(images) for _, images in rows)
    height = cell + CAPTION_HEIGHT + margin
    letters = cell // LETTER_WIDTH
    sheet = Image.new("RGB", (columns * (cell + margin), len(rows) * height), "white")
    pen = ImageDraw.Draw(sheet)
    for row, (captions, images) in enumerate(rows):
        for column, (caption, image) in enumerate(zip(captions, images, strict=True)):
            corner = (column * (cell + margin), row * height)
            text = caption if len(caption) <= letters else caption[: letters - 1] + "…"
            pen.text((corner[0] + 1, corner[1] + 1), text, fill="black")
            share = cell / max(image.size)
            size = (round(image.width * share), round(image.height * share))
            fitted = image.resize(size, Image.Resampling.LANCZOS)
            sheet.paste(fitted, (corner[0], corner[1] + CAPTION_HEIGHT))
    return sheet
