"""Painting backgrounds: shapes in unit coordinates, anti-aliased, with jittered colours.

Shapes are given in unit coordinates (0, 0 top left; 1, 1 bottom right), painted at twice
the wanted size and averaged down: cheap anti-aliasing that looks the same at any size.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from PIL import Image, ImageDraw

Colour = tuple[int, int, int]
Point = tuple[float, float]
Stop = tuple[float, Colour]

_OVERSAMPLE = 2
WHITE: Colour = (255, 255, 255)


def jitter(colour: Colour, rng: np.random.Generator, amount: float = 9.0) -> Colour:
    """The colour, a little lighter or darker and a little shifted in hue."""
    light, *shift = rng.uniform(-amount, amount, 4).tolist()
    r, g, b = (
        min(255, max(0, round(c + light + s / 2))) for c, s in zip(colour, shift, strict=True)
    )
    return r, g, b


def palette(rng: np.random.Generator, *colours: Colour) -> list[Colour]:
    """Each colour jittered."""
    return [jitter(colour, rng) for colour in colours]


def mix(a: Colour, b: Colour, t: float) -> Colour:
    """The colour a share t of the way from a to b."""
    r, g, blue = (round(p + (q - p) * t) for p, q in zip(a, b, strict=True))
    return r, g, blue


def gradient(size: int, *stops: Stop) -> Image.Image:
    """An image shaded from top to bottom through the stops."""
    rows = (np.arange(size) + 0.5) / size
    at = [stop[0] for stop in stops]
    column = np.empty((size, 1, 3), np.uint8)
    for channel in range(3):
        column[:, 0, channel] = np.interp(rows, at, [stop[1][channel] for stop in stops])
    # One column stretched sideways is far cheaper than filling the whole array.
    return Image.fromarray(column).resize((size, size), Image.Resampling.NEAREST)


class Canvas:
    """An oversampled image that is painted in unit coordinates."""

    def __init__(self, size: int, *stops: Stop) -> None:
        self.scale = size * _OVERSAMPLE
        self.image = gradient(self.scale, *stops)
        self.pen = ImageDraw.Draw(self.image)

    def oval(self, x: float, y: float, rx: float, ry: float, colour: Colour) -> None:
        s = self.scale
        self.pen.ellipse(((x - rx) * s, (y - ry) * s, (x + rx) * s, (y + ry) * s), fill=colour)

    def box(self, x0: float, y0: float, x1: float, y1: float, colour: Colour) -> None:
        s = self.scale
        # Pillow fills the last row and column as well, hence the -1.
        x1, y1 = max(x0, x1 - 1 / s), max(y0, y1 - 1 / s)
        self.pen.rectangle((x0 * s, y0 * s, x1 * s, y1 * s), fill=colour)

    def shape(self, points: Iterable[Point], colour: Colour) -> None:
        s = self.scale
        self.pen.polygon([(x * s, y * s) for x, y in points], fill=colour)

    def line(self, points: Iterable[Point], width: float, colour: Colour) -> None:
        s = self.scale
        path = [(x * s, y * s) for x, y in points]
        self.pen.line(path, fill=colour, width=round(width * s), joint="curve")

    def wave(self, y: float, height: float, turns: float, phase: float, colour: Colour) -> None:
        """Fill everything below a wavy line: hills, dunes, a shoreline."""
        x = np.linspace(0.0, 1.0, 25)
        edge = y + height * np.sin(2 * np.pi * (turns * x + phase))
        self.shape([*zip(x.tolist(), edge.tolist(), strict=True), (1.0, 1.1), (0.0, 1.1)], colour)

    def done(self) -> Image.Image:
        return self.image.reduce(_OVERSAMPLE)
