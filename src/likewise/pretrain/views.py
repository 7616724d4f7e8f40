"""Other looks of an individual and altered copies of an image: what encoders see through."""

from __future__ import annotations

import io
import math

import numpy as np
from PIL import Image, ImageFilter

from likewise.data.stickers.rendering import SIDE
from likewise.pretrain.samples import random_look


def random_look_in(colour: str | None, rng: np.random.Generator) -> dict[str, str]:
    """Scene, size and place at random; the colour stays, as it does for one individual."""
    look = {key: value for key, value in random_look(rng).items() if key != "colour"}
    return look if colour is None else {**look, "colour": colour}


def random_crop(image: Image.Image, rng: np.random.Generator, smallest: float = 0.3) -> Image.Image:
    """A random part (`smallest` … 1 of the area, nearly square) at the image's own size."""
    area = float(rng.uniform(smallest, 1.0))
    aspect = math.exp(float(rng.uniform(-0.2, 0.2)))
    width, height = image.size
    across = min(1.0, math.sqrt(area * aspect)) * width
    down = min(1.0, math.sqrt(area / aspect)) * height
    left, top = float(rng.uniform(0, width - across)), float(rng.uniform(0, height - down))
    box = (left, top, left + across, top + down)
    return image.resize(image.size, Image.Resampling.BILINEAR, box=box)


def relight(image: Image.Image, rng: np.random.Generator, amount: float = 0.15) -> Image.Image:
    """A little brighter or darker, and each channel a little on its own: hues hardly change."""
    light = 1.0 + rng.uniform(-amount, amount)
    factors = (light * (1.0 + rng.uniform(-amount, amount, 3) / 4)).tolist()
    ramps = [min(255, round(level * factor)) for factor in factors for level in range(256)]
    return image.point(ramps)


def degrade(image: Image.Image, rng: np.random.Generator, share: float = 0.6) -> Image.Image:
    """With probability `share`, flawed as generated images are: blur, lost detail, noise."""
    if rng.random() >= share:
        return image
    if rng.random() < 0.4:
        image = image.filter(ImageFilter.GaussianBlur(float(rng.uniform(0.3, 1.0))))
    if rng.random() < 0.4:
        side = int(rng.integers(SIDE * 5 // 8, SIDE))
        small = image.resize((side, side), Image.Resampling.BILINEAR)
        image = small.resize(image.size, Image.Resampling.BICUBIC)
    if rng.random() < 0.3:
        image = _recompressed(image, quality=int(rng.integers(25, 80)))
    if rng.random() < 0.4:
        image = _noisy(image, rng, deviation=float(rng.uniform(1.0, 9.0)))
    return image


def _recompressed(image: Image.Image, quality: int) -> Image.Image:
    # JPEG's blocks of missing detail resemble the marks of a small autoencoder.
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return Image.open(file).convert("RGB")


def _noisy(image: Image.Image, rng: np.random.Generator, deviation: float) -> Image.Image:
    noise = rng.normal(0.0, deviation, (*image.size[::-1], 3))
    array = np.asarray(image, dtype=np.float64) + noise
    return Image.fromarray(array.round().clip(0, 255).astype(np.uint8))
