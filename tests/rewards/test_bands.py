"""Levels of detail of an image."""

from __future__ import annotations

import numpy as np
from PIL import Image

from likewise.rewards.common.bands import banded


def picture() -> Image.Image:
    """A red half beside a blue one, with a bright dot of one pixel in each."""
    pixels = np.zeros((64, 64, 3), np.uint8)
    pixels[:, :32], pixels[:, 32:] = (140, 60, 60), (60, 60, 140)
    pixels[16, 16] = pixels[48, 48] = 150
    return Image.fromarray(pixels)


def test_bands_add_up_to_the_image() -> None:
    image = picture()
    coarse, fine = (np.asarray(banded(image, band, 0.05), int) for band in ("coarse", "fine"))
    assert np.abs(coarse + fine - 128 - np.asarray(image, int)).max() <= 1
    assert banded(image, "all", 0.05) is image


def test_each_band_holds_what_it_says() -> None:
    coarse, fine = (np.asarray(banded(picture(), band, 0.05), int) for band in ("coarse", "fine"))
    assert abs(coarse[5, 5] - (140, 60, 60)).max() <= 2  # colours
    assert abs(coarse[16, 16] - coarse[20, 16]).max() < 10  # and no dots
    assert abs(fine[5, 5] - 128).max() <= 2
    assert (fine[16, 16] - fine[20, 16]).max() > 60
