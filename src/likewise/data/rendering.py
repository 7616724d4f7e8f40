"""Drawing one picture of the sticker world: a subject, changed as asked, on a background.

A :class:`Spec` says what must be so; everything it leaves open (exact place, angle, scale, light,
details of the scene) is drawn from the given random generator. Same spec and seed, same bytes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from PIL import Image

from likewise.data.scenes import SCENES, draw_backdrop, draw_scene
from likewise.data.sticker_art import StickerArt, nearest

SIDE = 64  # pictures are SIDE × SIDE pixels

# The middle tone of each colour; shadows and highlights follow the sticker's own luminance.
COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (214, 40, 40),
    "yellow": (240, 196, 32),
    "green": (52, 160, 66),
    "blue": (44, 98, 214),
    "purple": (132, 58, 176),
    "pink": (244, 128, 176),
}
# Longest side of the subject, in pixels.
SIZES: dict[str, float] = {"tiny": 20.0, "normal": 36.0, "huge": 54.0}
# How far left or right of the middle, in pixels, by size: the subject stays inside the picture.
SHIFTS: dict[str, float] = {"tiny": 18.0, "normal": 13.0, "huge": 5.0}
PLACES: dict[str, float] = {"left": -1.0, "centre": 0.0, "right": 1.0}


@dataclass(frozen=True)
class Variant:
    """A made-up individual of a sticker's kind, so that training sees more than the catalogue.

    Used in training only, on reference and target alike: hue in degrees, `mirrored`, and `stretch`
    = width over height relative to the original.
    """

    hue: float = 0.0
    mirrored: bool = False
    stretch: float = 1.0


@dataclass(frozen=True)
class Spec:
    """What a picture must show. ``None`` leaves an attribute at its usual value.

    Raises:
        ValueError: unknown scene, colour, size or place (the message names it).
    """

    subject: str
    scene: str | None = None  # None: plain backdrop
    colour: str | None = None  # None: the sticker's own colours
    size: str = "normal"
    place: str = "centre"
    variant: Variant = Variant()

    def __post_init__(self) -> None:
        checks = (("scene", SCENES), ("colour", COLOURS), ("size", SIZES), ("place", PLACES))
        for attribute, known in checks:
            value = getattr(self, attribute)
            if value is not None and value not in known:
                hint = nearest(value, known)
                raise ValueError(f"unknown {attribute} {value!r}{hint}; known: {', '.join(known)}")


@dataclass(frozen=True)
class Drawing:
    """A rendered picture (RGB, SIDE × SIDE) and its subject's mask (L, 255 = subject)."""

    image: Image.Image
    mask: Image.Image


def render(art: StickerArt, spec: Spec, rng: np.random.Generator, spread: float = 1.0) -> Drawing:
    """Draw `spec`. `spread` scales the free variation of pose and light (1 = the world's own)."""
    if spec.scene is None:
        background = draw_backdrop(rng, SIDE)
    else:
        background = draw_scene(spec.scene, rng, SIDE)
    layer = _posed(art, spec, rng, spread)
    alpha = layer.getchannel("A")
    subject = _coloured(layer.convert("RGB"), spec, art.pixels(spec.subject).mean_luminance)
    light = 1.0 + spread * rng.uniform(-0.1, 0.1)
    background.paste(subject.point(lambda level: level * light), (0, 0), alpha)
    return Drawing(background, alpha)


def _posed(art: StickerArt, spec: Spec, rng: np.random.Generator, spread: float) -> Image.Image:
    """The sticker on a transparent SIDE × SIDE canvas, at its place, size and angle."""
    longest = SIZES[spec.size] * (1.0 + spread * rng.uniform(-0.06, 0.06))
    angle = math.radians(spread * rng.uniform(-8.0, 8.0))
    dx, dy = spread * rng.uniform(-2.0, 2.0, size=2)
    centre_x = SIDE / 2 + PLACES[spec.place] * SHIFTS[spec.size] + dx
    centre_y = SIDE / 2 + dy

    source = art.pixels(spec.subject).at_least(longest)
    width, height = source.size
    stretch = math.sqrt(spec.variant.stretch)
    scale = max(width * stretch, height / stretch) / longest  # source pixels per drawn pixel
    across = -scale / stretch if spec.variant.mirrored else scale / stretch
    down = scale * stretch
    cos, sin = math.cos(angle), math.sin(angle)
    # PIL wants the inverse map, from canvas to source: rotate about the centre, then scale.
    a, b = across * cos, across * sin
    d, e = -down * sin, down * cos
    c = width / 2 - a * centre_x - b * centre_y
    f = height / 2 - d * centre_x - e * centre_y
    return source.transform(
        (SIDE, SIDE), Image.Transform.AFFINE, (a, b, c, d, e, f), Image.Resampling.BICUBIC
    )


def _coloured(picture: Image.Image, spec: Spec, mean_luminance: float) -> Image.Image:
    if spec.variant.hue:
        hue, saturation, value = picture.convert("HSV").split()
        turn = round(spec.variant.hue * 256 / 360)
        hue = hue.point([(level + turn) % 256 for level in range(256)])
        picture = Image.merge("HSV", (hue, saturation, value)).convert("RGB")
    if spec.colour is None:
        return picture
    luminance = picture.convert("L")
    return Image.merge(
        "RGB", [luminance.point(ramp) for ramp in _ramps(spec.colour, mean_luminance)]
    )


def _ramps(colour: str, mean_luminance: float) -> list[list[int]]:
    """One lookup table per channel: luminance → dark shade … colour … pale tint.

    The sticker's mean luminance maps to the colour itself, so that a black bat and a white dove
    both come out visibly red.
    """
    level = np.arange(256)
    centred = np.clip((level - mean_luminance) / 160.0, -1.0, 1.0)[:, None]
    tone = np.array(COLOURS[colour], dtype=np.float64)[None, :]
    shade, tint = tone * 0.25, tone + (255.0 - tone) * 0.75
    mixed = np.where(centred < 0, tone + centred * (tone - shade), tone + centred * (tint - tone))
    return [column.round().astype(int).tolist() for column in mixed.T]
