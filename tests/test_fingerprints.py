"""Fingerprints know an image again, and no other."""

from __future__ import annotations

import numpy as np
import pytest
from photosets import compressed, scene
from PIL import Image

from likewise.fingerprints import FingerprintIndex, difference_hash, distances, fingerprint


@pytest.mark.parametrize("seed", range(5))
def test_a_scaled_and_compressed_image_is_known_again(seed: int) -> None:
    image = scene(seed)
    known = FingerprintIndex([fingerprint(scene(100)), fingerprint(image)])
    assert known.matches(fingerprint(image.copy()))
    assert known.matches(fingerprint(compressed(image, 75)))
    assert known.matches(fingerprint(image.resize((120, 90), Image.Resampling.LANCZOS)))
    assert known.matches(fingerprint(compressed(image.resize((500, 375)), 60)))


def test_other_images_are_not() -> None:
    known = FingerprintIndex(fingerprint(scene(seed)) for seed in range(100))
    assert len(known) == 100
    assert not any(known.matches(fingerprint(scene(seed))) for seed in range(100, 300))


def test_plain_images_are_told_by_their_pixels_alone() -> None:
    red, blue = Image.new("RGB", (40, 30), "red"), Image.new("RGB", (40, 30), "blue")
    assert difference_hash(red) is None
    known = FingerprintIndex([fingerprint(red)])
    assert known.matches(fingerprint(red.copy())) and not known.matches(fingerprint(blue))
    assert not known.matches(fingerprint(scene(0)))
    assert not FingerprintIndex([]).matches(fingerprint(red))


def test_equal_bytes_of_another_shape_are_another_image() -> None:
    wide, high = Image.new("RGB", (40, 30), "red"), Image.new("RGB", (30, 40), "red")
    assert wide.tobytes() == high.tobytes() and fingerprint(wide) != fingerprint(high)


def test_distances_count_bits() -> None:
    hashes = np.array([[0] * 32, [255] * 32, [1] * 32], np.uint8)
    assert distances(hashes, np.zeros(32, np.uint8)).tolist() == [0, 256, 32]
