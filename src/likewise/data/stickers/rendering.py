"""Drawing one image of the sticker world: a subject, changed as asked, on a background.

A :class:`Spec` says what must be so; what it leaves open (the light, details of the scene) is
drawn from the given random generator. Same spec and seed, same bytes. Sizes and places are
multiples of the generator's token, so that a subject at its usual size and place covers the same
tokens of reference and image.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from PIL import Image

from likewise.data.stickers.art import MIP_SIDES, StickerArt, nearest
from likewise.data.stickers.marks import Mark, mark_layer
from likewise.data.stickers.scenes import SCENES, draw_backdrop, draw_scene

SIDE = 64  # images are SIDE × SIDE pixels

# The middle tone of each colour; shadows and highlights follow the sticker's own luminance.
COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (214, 40, 40),
    "yellow": (240, 196, 32),
    "green": (52, 160, 66),
    "blue": (44, 98, 214),
    "purple": (132, 58, 176),
    "pink": (244, 128, 176),
}
# Longest side of the subject, in pixels: 2, 4 and 6 tokens of 8 pixels.
SIZES: dict[str, float] = {"tiny": 16.0, "normal": 32.0, "huge": 48.0}
# How far left or right of the middle, in pixels, by size: the subject stays inside the image.
SHIFTS: dict[str, float] = {"tiny": 16.0, "normal": 16.0, "huge": 8.0}
LIGHT = 0.1  # the subject is up to this share brighter or darker
PLACES: dict[str, float] = {"left": -1.0, "centre": 0.0, "right": 1.0}


@dataclass(frozen=True)
class Variant:
    """An individual of a sticker's kind, the same in its reference and in every other image.

    All individuals have a `mark`; a `hue` (turned by so many degrees), `mirrored` and `stretch`
    (width over height relative to the original) are for pretraining, which wants more than the
    catalogue.
    """

    mark: Mark | None = None
    hue: float = 0.0
    mirrored: bool = False
    stretch: float = 1.0


@dataclass(frozen=True)
class Spec:
    """What an image must show. ``None`` leaves an attribute at its usual value.

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
    """A rendered image (RGB, SIDE × SIDE) and its subject's mask (L, 255 = subject)."""

    image: Image.Image
    mask: Image.Image


def render(art: StickerArt, spec: Spec, rng: np.random.Generator) -> Drawing:
    """Draw `spec` with the given stickers."""
    if spec.scene is None:
        background = draw_backdrop(rng, SIDE)
    else:
        background = draw_scene(spec.scene, rng, SIDE)
    pixels = art.pixels(spec.subject)
    layer = _posed(pixels.at_least(SIZES[spec.size]), spec)
    subject = _coloured(layer.convert("RGB"), spec, pixels.mean_luminance)
    if spec.variant.mark is not None:
        mark = _posed(_shrunk(mark_layer(art, spec.subject, spec.variant.mark), spec), spec)
        subject.paste(mark, (0, 0), mark.getchannel("A"))
    light = 1.0 + rng.uniform(-LIGHT, LIGHT)
    alpha = layer.getchannel("A")
    background.paste(subject.point(lambda level: level * light), (0, 0), alpha)
    return Drawing(background, alpha)


def _shrunk(layer: Image.Image, spec: Spec) -> Image.Image:
    """A mark's layer at the size of the sticker's pixels that `spec` is drawn from (see `mips`)."""
    longest = min(side for side in MIP_SIDES if side >= SIZES[spec.size])
    share = longest / max(layer.size)
    return layer.resize(
        (max(1, round(layer.width * share)), max(1, round(layer.height * share))),
        Image.Resampling.LANCZOS,
    )


def _posed(source: Image.Image, spec: Spec) -> Image.Image:
    """RGBA pixels of a subject on a transparent SIDE × SIDE canvas, at their place and size."""
    centre_x = SIDE / 2 + PLACES[spec.place] * SHIFTS[spec.size]
    width, height = source.size
    stretch = math.sqrt(spec.variant.stretch)
    # Source pixels per drawn pixel.
    scale = max(width * stretch, height / stretch) / SIZES[spec.size]
    across = -scale / stretch if spec.variant.mirrored else scale / stretch
    down = scale * stretch
    # PIL wants the inverse map, from canvas to source.
    c, f = width / 2 - across * centre_x, height / 2 - down * SIDE / 2
    return source.transform(
        (SIDE, SIDE),
        Image.Transform.AFFINE,
        (across, 0.0, c, 0.0, down, f),
        Image.Resampling.BICUBIC,
    )


def _coloured(image: Image.Image, spec: Spec, mean_luminance: float) -> Image.Image:
    if spec.variant.hue:
        hue, saturation, value = image.convert("HSV").split()
        turn = round(spec.variant.hue * 256 / 360)
        hue = hue.point([(level + turn) % 256 for level in range(256)])
        image = Image.merge("HSV", (hue, saturation, value)).convert("RGB")
    if spec.colour is None:
        return image
    luminance = image.convert("L")
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
