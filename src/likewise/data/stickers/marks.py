"""Marks: the fine details by which individuals of one kind differ.

Two penguins of the sticker world look alike but for a mark: an emblem on the belly, stripes, spots,
or a part that was dipped in paint. Colour and outline are decided early in the denoising, marks
late; so whether a drawing shows *this* penguin is a matter of detail, as it is with photos.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageChops, ImageDraw
from scipy.ndimage import distance_transform_edt

from likewise.data.stickers.art import StickerArt, nearest

# Marks keep their colours when a prompt recolours the subject; each has an edge that contrasts.
MARK_COLOURS: dict[str, tuple[int, int, int]] = {
    "white": (250, 250, 250),
    "black": (28, 28, 36),
    "red": (220, 32, 40),
    "orange": (250, 138, 20),
    "yellow": (252, 216, 40),
    "green": (40, 168, 72),
    "cyan": (40, 200, 224),
    "blue": (36, 84, 220),
    "purple": (142, 52, 190),
    "pink": (250, 120, 184),
}
EMBLEMS = ("disc", "ring", "star", "heart", "diamond", "triangle", "cross")
PATTERNS = ("belt", "stripes", "slash", "spots", "dip")
SHAPES = EMBLEMS + PATTERNS

_OVERSAMPLE = 2
_EDGE = 4.0  # source pixels of 112 along the longest side: about one pixel of a usual drawing
_SMALLEST, _LARGEST = 13.0, 22.0  # radius of an emblem, source pixels


@dataclass(frozen=True)
class Mark:
    """What sets an individual apart: a shape of `SHAPES` in a colour of `MARK_COLOURS`.

    Raises:
        ValueError: unknown shape or colour (the message names it).
    """

    shape: str
    colour: str

    def __post_init__(self) -> None:
        for attribute, known in (("shape", SHAPES), ("colour", tuple(MARK_COLOURS))):
            value = getattr(self, attribute)
            if value not in known:
                raise ValueError(
                    f"unknown {attribute} of a mark {value!r}{nearest(value, known)}; "
                    f"known: {', '.join(known)}"
                )


def random_mark(rng: np.random.Generator) -> Mark:
    """Any shape in any colour, all equally likely."""
    colours = tuple(MARK_COLOURS)
    return Mark(SHAPES[rng.integers(len(SHAPES))], colours[rng.integers(len(colours))])


def other_mark(mark: Mark | None, rng: np.random.Generator) -> Mark:
    """A mark that differs from `mark`: in shape, in colour, or (one time in three) in both."""
    if mark is None:
        return random_mark(rng)
    shapes = [shape for shape in SHAPES if shape != mark.shape]
    colours = [colour for colour in MARK_COLOURS if colour != mark.colour]
    shape, colour = shapes[rng.integers(len(shapes))], colours[rng.integers(len(colours))]
    change = rng.integers(3)
    return Mark(mark.shape if change == 0 else shape, mark.colour if change == 1 else colour)


@functools.lru_cache(maxsize=512)
def mark_layer(art: StickerArt, subject: str, mark: Mark) -> Image.Image:
    """The mark alone, RGBA, on a canvas of the subject's largest stored size, inside its outline.

    Emblems sit where the subject is widest (the centre of its largest inscribed circle).
    """
    alpha = art.pixels(subject).mips[0].getchannel("A")
    centre, radius = _widest(art, subject)
    size = (alpha.width * _OVERSAMPLE, alpha.height * _OVERSAMPLE)
    outer, inner = Image.new("L", size), Image.new("L", size)
    place = (centre[0] * _OVERSAMPLE, centre[1] * _OVERSAMPLE)
    extent = min(max(0.8 * radius, _SMALLEST), _LARGEST) * _OVERSAMPLE
    edge = _EDGE * _OVERSAMPLE
    _DRAW[mark.shape](ImageDraw.Draw(outer), place, extent, edge)
    _DRAW[mark.shape](ImageDraw.Draw(inner), place, extent, 0.0)
    if mark.shape == "ring":
        hole = extent * 0.42
        for mask, radius_of_hole in ((outer, hole - edge / 2), (inner, hole)):
            ImageDraw.Draw(mask).ellipse(_box(place, radius_of_hole), fill=0)
    fill = MARK_COLOURS[mark.colour]
    bright = 0.299 * fill[0] + 0.587 * fill[1] + 0.114 * fill[2] > 150
    layer = Image.new("RGB", size, (36, 36, 48) if bright else (248, 248, 248))
    layer.paste(fill, (0, 0), inner)
    layer.putalpha(outer)
    layer = layer.reduce(_OVERSAMPLE)
    layer.putalpha(ImageChops.multiply(layer.getchannel("A"), alpha))
    return layer


@functools.lru_cache(maxsize=1024)
def _widest(art: StickerArt, subject: str) -> tuple[tuple[float, float], float]:
    """Centre (x, y) and radius of the largest circle inside the outline, in pixels."""
    alpha = art.pixels(subject).mips[0].getchannel("A")
    inside = np.pad(np.asarray(alpha) >= 128, 1)
    distance = distance_transform_edt(inside)
    y, x = np.unravel_index(int(distance.argmax()), distance.shape)
    return (float(x) - 0.5, float(y) - 0.5), float(distance.max())


Point = tuple[float, float]


def _box(centre: Point, radius: float) -> tuple[float, float, float, float]:
    x, y = centre
    return (x - radius, y - radius, x + radius, y + radius)


def _disc(pen: ImageDraw.ImageDraw, centre: Point, radius: float, edge: float) -> None:
    pen.ellipse(_box(centre, radius + edge), fill=255)


def _polygon(
    pen: ImageDraw.ImageDraw, centre: Point, radii: list[float], turn: float = -90.0
) -> None:
    """A closed polygon whose corners lie at equal angles, `radii` away from the centre."""
    x, y = centre
    step = 2 * math.pi / len(radii)
    angles = [math.radians(turn) + step * number for number in range(len(radii))]
    pen.polygon(
        [
            (x + r * math.cos(angle), y + r * math.sin(angle))
            for r, angle in zip(radii, angles, strict=True)
        ],
        fill=255,
    )


def _star(pen: ImageDraw.ImageDraw, centre: Point, radius: float, edge: float) -> None:
    _polygon(pen, centre, [radius * 1.15 + edge * 1.6, radius * 0.52 + edge] * 5)


def _heart(pen: ImageDraw.ImageDraw, centre: Point, radius: float, edge: float) -> None:
    x, y = centre
    lobe = radius * 0.56
    for side in (-1, 1):
        pen.ellipse(_box((x + side * lobe * 0.9, y - radius * 0.35), lobe + edge), fill=255)
    width, top = radius * 1.0 + edge, y - radius * 0.12
    pen.polygon([(x - width, top), (x + width, top), (x, y + radius + edge * 1.4)], fill=255)


def _diamond(pen: ImageDraw.ImageDraw, centre: Point, radius: float, edge: float) -> None:
    _polygon(pen, centre, [radius * 1.1 + edge * 1.3] * 4)


def _triangle(pen: ImageDraw.ImageDraw, centre: Point, radius: float, edge: float) -> None:
    _polygon(pen, centre, [radius * 1.15 + edge * 1.8] * 3)


def _cross(pen: ImageDraw.ImageDraw, centre: Point, radius: float, edge: float) -> None:
    x, y = centre
    long, short = radius + edge, radius * 0.36 + edge
    pen.rectangle((x - long, y - short, x + long, y + short), fill=255)
    pen.rectangle((x - short, y - long, x + short, y + long), fill=255)


def _belt(pen: ImageDraw.ImageDraw, centre: Point, radius: float, edge: float) -> None:
    half = 7.0 * _OVERSAMPLE + edge / 2
    _, y = centre
    pen.rectangle((-1000, y - half, 1000, y + half), fill=255)


def _stripes(pen: ImageDraw.ImageDraw, centre: Point, radius: float, edge: float) -> None:
    half, gap = 4.5 * _OVERSAMPLE + edge / 2, 22.0 * _OVERSAMPLE
    for number in (-1, 0, 1):
        x = centre[0] + number * gap
        pen.rectangle((x - half, -1000, x + half, 1000), fill=255)


def _slash(pen: ImageDraw.ImageDraw, centre: Point, radius: float, edge: float) -> None:
    x, y = centre
    width = round(14 * _OVERSAMPLE + edge)
    pen.line([(x - 500, y + 500), (x + 500, y - 500)], fill=255, width=width)


def _spots(pen: ImageDraw.ImageDraw, centre: Point, radius: float, edge: float) -> None:
    x, y = centre
    for dx, dy in ((-1, -1), (1, -1), (0, 0), (-1, 1), (1, 1)):
        spot = (x + 19 * dx * _OVERSAMPLE, y + 19 * dy * _OVERSAMPLE)
        pen.ellipse(_box(spot, 7.5 * _OVERSAMPLE + edge / 2), fill=255)


def _dip(pen: ImageDraw.ImageDraw, centre: Point, radius: float, edge: float) -> None:
    """Everything below the centre, as if the subject had stood in paint."""
    pen.rectangle((-1000, centre[1] + 8 * _OVERSAMPLE - edge / 2, 1000, 1000), fill=255)


_DRAW = {
    "disc": _disc,
    "ring": _disc,
    "star": _star,
    "heart": _heart,
    "diamond": _diamond,
    "triangle": _triangle,
    "cross": _cross,
    "belt": _belt,
    "stripes": _stripes,
    "slash": _slash,
    "spots": _spots,
    "dip": _dip,
}
