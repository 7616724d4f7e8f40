"""UNO's layout of reference images: sizes in pixels, and position ids beside the image's."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from PIL import Image
from torch import Tensor

from likewise.policies.flux.tokens import Grid, position_ids

ONE, SEVERAL = 512, 320  # pixels: the longer side of a task's only reference, and of each of many


def longer_side(references: int, chosen: int | None) -> int:
    """Pixels of the longer side of a reference: as chosen, or UNO's rule by their number."""
    if chosen is not None:
        return chosen
    return ONE if references == 1 else SEVERAL


def fitted_size(height: int, width: int, longest: int, multiple: int) -> tuple[int, int]:
    """Pixels (height, width) at which UNO takes an image, multiples of `multiple`.

    Raises:
        ValueError: nothing would be left of the shorter side.
    """
    scaled = _scaled(height, width, longest)
    if min(scaled) < multiple:
        raise ValueError(
            f"reference is {width}×{height} pixels; with its longer side at {longest} the other "
            f"has {min(scaled)}, and must have at least {multiple}"
        )
    return scaled[0] // multiple * multiple, scaled[1] // multiple * multiple


def fitted(image: Image.Image, longest: int, multiple: int) -> Image.Image:
    """The image, scaled to `longest` (Lanczos) and cropped about its centre, as UNO does.

    Sides are rounded down exactly; UNO's own arithmetic in floating point makes a few of them a
    pixel shorter, and then squares of some sizes lose a row of tokens.

    Raises:
        ValueError: as :func:`fitted_size`.
    """
    height, width = fitted_size(image.height, image.width, longest, multiple)
    tall, wide = _scaled(image.height, image.width, longest)
    left, top = (wide - width) // 2, (tall - height) // 2
    scaled = image.resize((wide, tall), Image.Resampling.LANCZOS)
    return scaled.crop((left, top, left + width, top + height))


def diagonal_ids(grid: Grid, references: Sequence[Grid]) -> list[Tensor]:
    """Position ids (0, row, column) of each reference, float32 [h·w, 3] (docs/method.md §4).

    Each starts where the one before ends, in rows and in columns; the first where the drawing ends.
    """
    ids, corner = [], torch.tensor([0, *grid])
    for size in references:
        ids.append(position_ids(size, 0) + corner)
        corner = corner + torch.tensor([0, *size])
    return ids


def _scaled(height: int, width: int, longest: int) -> tuple[int, int]:
    side = max(height, width)
    return longest * height // side, longest * width // side
