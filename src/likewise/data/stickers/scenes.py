"""Drawn backgrounds: fourteen flat-design scenes, and the plain studio backdrop.

Every scene is painted with bold shapes in a palette of its own, so that a very small
autoencoder can keep it and a very small classifier can name it. What identifies a scene
reaches all edges of the image, because a subject is pasted over its centre.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image

from likewise.data.stickers.canvas import WHITE, Canvas, Colour, gradient, jitter, mix, palette


@dataclass(frozen=True)
class Scene:
    """A background: its name, phrases that fit "a turtle ___", and how to draw it."""

    name: str
    phrases: tuple[str, ...]
    draw: Callable[[np.random.Generator, int], Image.Image]


def _spots(rng: np.random.Generator, low: int, high: int, numbers: int = 3) -> list[list[float]]:
    """Between low and high rows of random numbers in [0, 1), one row for each element."""
    return rng.random((int(rng.integers(low, high + 1)), numbers)).tolist()


def _hills(c: Canvas, rng: np.random.Generator, *hills: tuple[float, float, Colour]) -> None:
    """Rolling ground, farthest first: the height of each line, its swing and its colour."""
    for y, swing, colour in hills:
        c.wave(y, swing, rng.uniform(0.6, 1.3), rng.random(), colour)


def _clouds(c: Canvas, rng: np.random.Generator, below: float) -> None:
    for x, y, r in _spots(rng, 1, 3):
        y, r = 0.06 + y * (below - 0.12), 0.08 + 0.05 * r
        c.oval(x, y, r, r * 0.42, WHITE)
        c.oval(x + 0.5 * r, y - 0.3 * r, r * 0.55, r * 0.45, WHITE)


def _beach(rng: np.random.Generator, size: int) -> Image.Image:
    sea_top, shore = rng.uniform(0.26, 0.36), rng.uniform(0.52, 0.64)
    sky, sea, sand = palette(rng, (120, 200, 245), (20, 150, 195), (246, 222, 170))
    pale, shallow = mix(sky, WHITE, 0.6), mix(sea, (140, 235, 225), 0.7)
    c = Canvas(size, (0, sky), (sea_top, pale), (sea_top + 0.005, sea), (shore, shallow))
    c.oval(rng.uniform(0.08, 0.92), rng.uniform(0.08, 0.16), 0.075, 0.075, (255, 238, 140))
    _clouds(c, rng, sea_top)
    swing, turns, phase = rng.uniform(0.015, 0.035), rng.uniform(0.8, 1.8), rng.random()
    for k, colour in enumerate((WHITE, mix(sand, (150, 120, 80), 0.25), sand)):
        c.wave(shore + 0.045 * (k - 1), swing, turns, phase, colour)
    for x, y, kind in _spots(rng, 3, 7):
        c.oval(x, 0.8 + 0.18 * y, 0.03, 0.022, mix((255, 150, 130), WHITE, round(kind)))
    return c.done()


def _pine(c: Canvas, x: float, y: float, h: float, green: Colour) -> None:
    for k, tier in enumerate((0.1, 0.4, 0.68)):
        half, base, top = h * (0.34 - 0.08 * k), y - tier * h, y - (tier + 0.45) * h
        c.shape([(x - half, base), (x, top), (x + half, base)], green)
        half, base = 0.55 * half, 0.55 * base + 0.45 * top
        c.shape([(x - half, base), (x, top), (x + half, base)], WHITE)


def _snow(rng: np.random.Generator, size: int) -> Image.Image:
    horizon = rng.uniform(0.42, 0.54)
    sky, hill, green = palette(rng, (150, 180, 215), (205, 220, 240), (50, 105, 110))
    c = Canvas(size, (0, sky), (horizon, (222, 232, 244)))
    _hills(c, rng, (horizon - 0.03, 0.05, hill))
    for x, y, h in sorted(_spots(rng, 3, 6), key=lambda tree: tree[1]):
        _pine(c, x, horizon + 0.08 + 0.12 * y, 0.3 + 0.15 * h + 0.08 * y, green)
    _hills(c, rng, (horizon + 0.17, 0.035, (243, 247, 253)), (0.85, 0.03, (226, 236, 249)))
    for x, y, r in _spots(rng, 16, 26):
        c.oval(x, y, 0.009 + 0.01 * r, 0.009 + 0.01 * r, WHITE)
    return c.done()


def _leaf(c: Canvas, x: float, y: float, angle: float, length: float, green: Colour) -> None:
    """A pointed leaf from (x, y) outwards, one half of it in shade."""
    dx, dy = length * float(np.cos(angle)), length * float(np.sin(angle))
    for w, colour in ((-0.2, green), (0.2, mix(green, (0, 35, 20), 0.3))):
        edge = [(x + t * dx - w * dy, y + t * dy + w * dx) for t in (0.25, 0.6)]
        c.shape([(x, y), *edge, (x + dx, y + dy)], colour)


def _jungle(rng: np.random.Generator, size: int) -> Image.Image:
    deep, glow, *greens = palette(
        rng, (10, 66, 42), (78, 150, 70), (24, 110, 52), (44, 142, 58), (16, 92, 64)
    )
    c = Canvas(size, (0, deep), (rng.uniform(0.4, 0.6), glow), (1, deep))
    for x, w, sag in _spots(rng, 2, 4):
        c.line([(x, -0.1), (x + 0.1 * sag - 0.05, 1.1)], 0.03 + 0.05 * w, (48, 74, 40))
    # Leaves start on the frame and point inwards, so the middle stays a clearing.
    for k, (where, turn, length) in enumerate(_spots(rng, 16, 22)):
        x, y = ((where, -0.04), (1.04, where), (where, 1.04), (-0.04, where))[k % 4]
        angle = np.pi * (k % 4 + 1) / 2 + 1.8 * (turn - 0.5)
        _leaf(c, x, y, angle, 0.26 + 0.2 * length, greens[k % 3])
    return c.done()


def _city(rng: np.random.Generator, size: int) -> Image.Image:
    sky, low, wall, road = palette(
        rng, (168, 160, 222), (250, 205, 205), (84, 94, 132), (72, 74, 84)
    )
    ground, x = rng.uniform(0.76, 0.84), rng.uniform(-0.12, 0.0)
    c = Canvas(size, (0, sky), (0.7, low))
    for k, (h, w) in enumerate(_spots(rng, 6, 6, 2)):
        c.box(k / 6 - 0.04 * w, 0.18 + 0.3 * h, (k + 1) / 6, ground, mix(wall, low, 0.6))
    for h, w, shade, gap in _spots(rng, 6, 6, 4):
        w, top = 0.15 + 0.07 * w, 0.12 + 0.4 * h
        c.box(x, top, x + w, ground, mix(wall, (45, 55, 90), shade))
        for y in np.arange(top + 0.05, ground - 0.06, 0.11).tolist():
            c.box(x + 0.03, y, x + w / 2 - 0.01, y + 0.05, (255, 224, 130))
            c.box(x + w / 2 + 0.01, y, x + w - 0.03, y + 0.05, (255, 224, 130))
        x += w + 0.06 * gap
    c.box(0, ground, 1, ground + 0.04, (190, 190, 198))
    c.box(0, ground + 0.04, 1, 1, road)
    for k in range(4):
        c.box(0.3 * k - h * 0.2, 0.91, 0.3 * k + 0.14 - h * 0.2, 0.935, WHITE)
    return c.done()


def _cactus(c: Canvas, x: float, y: float, h: float, green: Colour) -> None:
    for side, top in ((-0.36, 0.62), (0.36, 0.75), (0.0, 1.0)):
        arm, w = x + side * h, (0.07 if side else 0.1) * h
        c.box(min(x, arm), y - 0.42 * h, max(x, arm), y - 0.28 * h, green)
        c.box(arm - w, y - top * h, arm + w, y - 0.28 * h if side else y, green)
        c.oval(arm, y - top * h, w, w, green)


def _desert(rng: np.random.Generator, size: int) -> Image.Image:
    top = rng.uniform(0.36, 0.48)
    sky, low, sand, green = palette(
        rng, (92, 196, 214), (255, 232, 190), (232, 138, 66), (40, 120, 70)
    )
    c = Canvas(size, (0, sky), (top, low))
    c.oval(rng.uniform(0.1, 0.9), rng.uniform(0.1, 0.2), 0.09, 0.09, (255, 250, 215))
    _hills(c, rng, (top, 0.04, mix(sand, (190, 80, 60), 0.5)))
    for k, (x, y, h) in enumerate(_spots(rng, 2, 3)):
        x = (0.02 + 0.24 * x, 0.74 + 0.24 * x, x)[k]
        _cactus(c, x, top + 0.14 + 0.1 * y, 0.26 + 0.14 * h, green)
    dark, light = mix(sand, (200, 95, 50), 0.45), mix(sand, (255, 190, 110), 0.5)
    _hills(c, rng, (top + 0.15, 0.05, sand), (0.76, 0.05, dark), (0.9, 0.04, light))
    return c.done()


def _night_sky(rng: np.random.Generator, size: int) -> Image.Image:
    top, low = palette(rng, (12, 15, 50), (46, 44, 112))
    halo = mix(top, (120, 120, 190), 0.35)
    c = Canvas(size, (0, top), (1, low))
    for x, y, r in _spots(rng, 26, 40):
        c.oval(x, y, 0.008 + 0.014 * r * r, 0.008 + 0.014 * r * r, (255, 250, 215))
    x, y = rng.choice((0.16, 0.84)) + rng.uniform(-0.05, 0.05), rng.uniform(0.13, 0.24)
    r, bite = rng.uniform(0.09, 0.12), rng.uniform(0.4, 0.9)
    c.oval(x, y, r * 1.35, r * 1.35, halo)
    c.oval(x, y, r, r, (255, 244, 190))
    c.oval(x + bite * r, y - 0.3 * r, 0.8 * r, 0.8 * r, halo)
    return c.done()


def _meadow(rng: np.random.Generator, size: int) -> Image.Image:
    top = rng.uniform(0.32, 0.46)
    sky, grass, far = palette(rng, (108, 186, 246), (118, 196, 70), (90, 172, 90))
    c = Canvas(size, (0, sky), (top, (226, 243, 252)))
    _clouds(c, rng, top)
    near = mix(grass, (50, 140, 50), 0.5)
    _hills(c, rng, (top, 0.04, far), (top + 0.12, 0.04, grass), (0.8, 0.04, near))
    petals = (WHITE, (250, 90, 120), (255, 220, 60), (190, 110, 230))
    for x, y, kind in _spots(rng, 14, 22):
        y = top + 0.18 + (0.8 - top) * y
        r = 0.018 + 0.022 * y
        c.oval(x, y, r, r, petals[int(kind * 4)])
        c.oval(x, y, r * 0.4, r * 0.4, (255, 190, 40))
    return c.done()


def _brick_wall(rng: np.random.Generator, size: int) -> Image.Image:
    mortar, light, dark = palette(rng, (206, 192, 182), (196, 86, 64), (156, 58, 52))
    c = Canvas(size, (0, mortar), (1, mix(mortar, (120, 100, 95), 0.3)))
    height, width = rng.uniform(0.115, 0.15), rng.uniform(0.26, 0.34)
    x0, y0 = -rng.random() * width, -rng.random() * height
    for row, shades in enumerate(_spots(rng, 10, 10, 6)):
        for k, shade in enumerate(shades):
            x, y = x0 + width * (k - 0.5 * (row % 2)), y0 + row * height
            c.box(x, y, x + width - 0.028, y + height - 0.028, mix(light, dark, shade))
    return c.done()


def _underwater(rng: np.random.Generator, size: int) -> Image.Image:
    top, low, bed, weed = palette(rng, (78, 214, 220), (0, 84, 128), (36, 116, 120), (30, 150, 96))
    c = Canvas(size, (0, top), (1, low))
    source, lean = rng.uniform(0.2, 0.8), rng.uniform(-0.3, 0.3)
    rays = Canvas(size, (0, (0, 0, 0)))
    for k, (w, _, _) in enumerate(_spots(rng, 3, 4)):
        a, b, w = source + 0.22 * (k - 1.5), 0.5 * k - 0.25 + lean, 0.06 + 0.06 * w
        rays.shape([(a - w / 3, 0), (a + w / 3, 0), (b + w, 1), (b - w, 1)], (70, 70, 70))
    c.image.paste(mix(top, (220, 255, 250), 0.45), mask=rays.image.getchannel(0))
    _hills(c, rng, (0.9, 0.03, bed))
    for x, h, w in _spots(rng, 4, 7):
        path = [(x + 0.025 * (-1) ** k, 1.02 - (0.05 + 0.06 * h) * k) for k in range(5)]
        c.line(path, 0.035 + 0.02 * w, weed)
    for x, y, r in _spots(rng, 8, 14):
        y, r = 0.9 * y, 0.014 + 0.025 * r
        c.oval(x, y, r, r, (214, 250, 252))
        c.oval(x + 0.15 * r, y + 0.15 * r, r * 0.7, r * 0.7, mix(top, low, 0.6 * y))
    return c.done()


def _wooden_floor(rng: np.random.Generator, size: int) -> Image.Image:
    seam, dark, light = palette(rng, (104, 64, 36), (136, 88, 50), (198, 142, 90))
    c = Canvas(size, (0, seam), (1, seam))
    # Boards fan out towards the viewer, which no other scene's stripes do.
    centre, phase = rng.uniform(0.35, 0.65), rng.random() - 5.5
    narrow, wide = rng.uniform(0.11, 0.14), rng.uniform(0.2, 0.25)
    for k, (shade, cut, shade2) in enumerate(_spots(rng, 11, 11)):
        left, right = k + phase + 0.05, k + phase + 0.95
        for y0, y1, tone in ((0.0, cut, shade), (cut + 0.02, 1.0, 0.5 + 0.5 * shade2)):
            a, b = narrow + (wide - narrow) * y0, narrow + (wide - narrow) * y1
            corners = ((left * a, y0), (right * a, y0), (right * b, y1), (left * b, y1))
            c.shape([(centre + x, y) for x, y in corners], mix(dark, light, tone))
    return c.done()


def _purple_rug(rng: np.random.Generator, size: int) -> Image.Image:
    floor, purple, gold = palette(rng, (226, 212, 198), (122, 52, 160), (240, 190, 90))
    c = Canvas(size, (0, floor), (1, mix(floor, (160, 140, 130), 0.3)))
    x, y = rng.uniform(0.46, 0.54), rng.uniform(0.49, 0.54)
    rx, ry = rng.uniform(0.52, 0.64), rng.uniform(0.47, 0.54)
    c.oval(x, y + 0.03, rx + 0.01, ry, mix(floor, (90, 70, 80), 0.5))
    light = mix(purple, (236, 190, 250), 0.6)
    for k, share in enumerate((1.0, 0.9, 0.85, 0.7, 0.45, 0.36)):
        colour = (purple, gold, light, purple, light, purple)[k]
        c.oval(x, y, rx * share, ry * share, colour)
    count, phase = int(rng.integers(12, 19)), rng.random()
    for turn in (2 * np.pi * (np.arange(count) + phase) / count).tolist():
        c.oval(x + 0.775 * rx * np.cos(turn), y + 0.775 * ry * np.sin(turn), 0.035, 0.03, purple)
    return c.done()


def _wheat_field(rng: np.random.Generator, size: int) -> Image.Image:
    top, centre, phase = rng.uniform(0.24, 0.34), rng.uniform(0.25, 0.75), rng.random() - 7
    sky, gold, ear = palette(rng, (150, 205, 240), (240, 196, 60), (255, 222, 110))
    dark = mix(gold, (190, 130, 20), 0.6)
    c = Canvas(size, (0, sky), (top, (250, 244, 222)), (top + 0.005, gold))
    for k in range(14):
        a, b = centre + 0.13 * (k + phase), centre + 0.42 * (k + phase)
        c.shape([(a, top), (a + 0.065, top), (b + 0.21, 1), (b, 1)], dark)
    for k, (x, y, lean) in enumerate(_spots(rng, 11, 15)):
        x, y, lean = (k % 12 + x) / 12, 0.52 + 0.24 * y, 0.08 * (lean - 0.5)
        c.line([(x, 1.05), (x + lean, y)], 0.016, mix(dark, (140, 100, 20), 0.4))
        for step in range(4):
            c.oval(x + lean * (1 - step / 9), y + 0.05 * step, 0.026, 0.034, ear)
    return c.done()


def _autumn_forest(rng: np.random.Generator, size: int) -> Image.Image:
    mist, ground, bark = palette(rng, (250, 226, 190), (150, 76, 40), (92, 56, 44))
    leaves = palette(rng, (214, 60, 36), (240, 128, 30), (250, 176, 50))
    c = Canvas(size, (0, mist), (0.7, mix(mist, (230, 170, 110), 0.5)))
    _hills(c, rng, (rng.uniform(0.7, 0.78), 0.02, ground))
    for k, (x, w, far) in enumerate(_spots(rng, 5, 7)):
        x, w, trunk = (k + x) / 6, 0.02 + 0.025 * w, mix(bark, (150, 110, 90), far * 0.5)
        c.shape([(x - 0.7 * w, 0), (x + 0.7 * w, 0), (x + w, 0.84), (x - w, 0.84)], trunk)
    for k, (x, y, r) in enumerate(_spots(rng, 13, 17)):
        c.oval((k % 7 + x) / 7, 0.3 * y, 0.09 + 0.05 * r, 0.08 + 0.04 * r, leaves[k % 3])
    for k, (x, y, r) in enumerate(_spots(rng, 14, 22)):
        y = 0.4 + 0.6 * y if k < 4 else 0.8 + 0.2 * y
        c.oval(x, y, 0.03 + 0.01 * r, 0.02, leaves[k % 3])
    return c.done()


def _volcano(rng: np.random.Generator, size: int) -> Image.Image:
    sky, glow, rock, lava = palette(rng, (120, 26, 30), (255, 146, 40), (44, 34, 40), (255, 84, 20))
    c = Canvas(size, (0, sky), (0.65, glow))
    x, top, half = rng.uniform(0.3, 0.7), rng.uniform(0.16, 0.26), rng.uniform(0.1, 0.14)
    for dx, y, r in _spots(rng, 3, 5):
        c.oval(x + 0.4 * (dx - 0.5), (top - 0.03) * y, 0.07 + 0.05 * r, 0.06, (92, 50, 52))
    c.shape([(x - half, top), (x + half, top), (x + 0.62, 0.85), (x - 0.62, 0.85)], rock)
    c.oval(x, top, half, 0.035, (255, 208, 80))
    for k, (bend, w, y) in enumerate(_spots(rng, 3, 3)):
        a, b = x + half * 0.6 * (k - 1), x + 0.36 * (k - 1) + 0.1 * (bend - 0.5)
        c.line([(a, top), ((a + b) / 2 + 0.04, 0.45), (b, 0.6 + 0.25 * y)], 0.03 + 0.02 * w, lava)
    _hills(c, rng, (0.77, 0.03, lava), (0.81, 0.03, (255, 208, 80)))
    for k, (dx, y, r) in enumerate(_spots(rng, 7, 9)):
        a, y, r = (k + dx) / 8, 0.88 + 0.1 * y, 0.08 + 0.05 * r
        peak = [(a - r / 2, y - r / 2), (a + r / 3, y - r * 0.7)]
        c.shape([(a - r, y + r), *peak, (a + r, y + r)], rock)
    return c.done()


_ALL = (
    Scene("beach", ("on the beach", "by the sea", "at the beach"), _beach),
    Scene("snow", ("in the snow", "in a snowy landscape", "on a snowy hill"), _snow),
    Scene("jungle", ("in the jungle", "deep in a green jungle"), _jungle),
    Scene("city", ("in the city", "on a city street", "in front of tall buildings"), _city),
    Scene("desert", ("in the desert", "among desert dunes", "in a desert with cacti"), _desert),
    Scene("night sky", ("in the night sky", "under the stars", "in a starry night"), _night_sky),
    Scene("meadow", ("in a meadow", "in a meadow with flowers"), _meadow),
    Scene("brick wall", ("against a brick wall", "in front of a brick wall"), _brick_wall),
    Scene("underwater", ("underwater", "under the sea", "deep under water"), _underwater),
    Scene("wooden floor", ("on a wooden floor", "on wooden floorboards"), _wooden_floor),
    Scene("purple rug", ("on a purple rug", "on a round purple carpet"), _purple_rug),
    Scene("wheat field", ("in a wheat field", "in a field of golden wheat"), _wheat_field),
    Scene("autumn forest", ("in an autumn forest", "among autumn trees"), _autumn_forest),
    Scene("volcano", ("on a volcano", "beside a volcano with lava"), _volcano),
)
SCENES: dict[str, Scene] = {scene.name: scene for scene in _ALL}

_PASTELS = ((232, 232, 234), (222, 230, 240), (240, 230, 222), (226, 238, 228), (238, 226, 236))


def draw_scene(name: str, rng: np.random.Generator, size: int = 64) -> Image.Image:
    """Draw one variation of the named scene as an RGB image of size by size."""
    if name not in SCENES:
        close = difflib.get_close_matches(name, SCENES, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise ValueError(f"unknown scene {name!r}.{hint} Known scenes: {', '.join(SCENES)}")
    return SCENES[name].draw(rng, size)


def draw_backdrop(rng: np.random.Generator, size: int = 64) -> Image.Image:
    """Draw the plain studio backdrop that stands behind a subject without a scene."""
    base = jitter(_PASTELS[int(rng.integers(len(_PASTELS)))], rng, 7)
    lift, fall = rng.uniform(0.1, 0.5), rng.uniform(0.04, 0.12)
    top, bottom = mix(base, WHITE, lift), mix(base, (90, 90, 100), fall)
    return gradient(size, (0, top), (1, bottom))
