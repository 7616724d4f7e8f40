"""What an image shows, in a few bytes: to find it again under another name. No torch.

A fingerprint has two halves. The exact one is the same for equal pixels. The perceptual one, a
difference hash (is each cell of a 16×16 grid darker than its right neighbour?), survives scaling
and lossy compression; it says nothing of images without structure, and is left out for them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import numpy as np
from PIL import Image

SIDE = 16  # cells per row and column
BITS = SIDE * SIDE
NEAR = 10  # of 256 bits: what scaling and lossy compression change at most
PLAIN = 16  # an image with fewer set (or unset) bits has too little structure to be told by it
NOTHING = "-" * (BITS // 4)


def fingerprint(image: Image.Image) -> str:
    """Exact and perceptual half of an RGB image, in hexadecimal: 32 and 64 characters."""
    exact = hashlib.blake2b(image.tobytes(), digest_size=16, key=repr(image.size).encode())
    hashed = difference_hash(image)
    return exact.hexdigest() + (NOTHING if hashed is None else hashed.tobytes().hex())


def difference_hash(image: Image.Image) -> np.ndarray | None:
    """Perceptual hash, uint8 [32]; None for an image without structure."""
    grey = image.convert("L").resize((SIDE + 1, SIDE), Image.Resampling.BOX)
    cells = np.asarray(grey, dtype=np.int16)
    bits = cells[:, :-1] < cells[:, 1:]
    return np.packbits(bits) if PLAIN <= bits.sum() <= BITS - PLAIN else None


class FingerprintIndex:
    """Fingerprints of known images, among which others are looked up."""

    def __init__(self, fingerprints: Iterable[str]) -> None:
        known = dict.fromkeys(fingerprints)
        self._exact = {exact_half(one) for one in known}
        found = [half for one in known if (half := perceptual_half(one)) is not None]
        self._hashes = np.stack(found) if found else np.zeros((0, BITS // 8), np.uint8)

    def __len__(self) -> int:
        return len(self._exact)

    def matches(self, fingerprint: str) -> bool:
        """Whether a known image is the same, or nearly the same."""
        if exact_half(fingerprint) in self._exact:
            return True
        hashed = perceptual_half(fingerprint)
        return hashed is not None and bool((distances(self._hashes, hashed) <= NEAR).any())


def distances(hashes: np.ndarray, one: np.ndarray) -> np.ndarray:
    """In how many bits perceptual hashes uint8 [N, 32] differ from another [32]: int64 [N]."""
    return np.bitwise_count(np.bitwise_xor(hashes, one)).sum(axis=1, dtype=np.int64)


def exact_half(fingerprint: str) -> str:
    """The half that is the same for equal pixels."""
    return fingerprint[: -len(NOTHING)]


def perceptual_half(fingerprint: str) -> np.ndarray | None:
    """The perceptual hash, uint8 [32]; None where the image has no structure."""
    half = fingerprint[-len(NOTHING) :]
    return None if half == NOTHING else np.frombuffer(bytes.fromhex(half), np.uint8)
