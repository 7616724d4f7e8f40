"""Randomness by name: every random number comes from a seed derived from what it is for.

Seeds never depend on batch splits, process counts or the order of calls, so results do not either.
This module does not import torch.
"""

from __future__ import annotations

import hashlib

import numpy as np


def derive_seed(*parts: str | int) -> int:
    """A 63-bit seed from a purpose, e.g. ``derive_seed("bench", "turtle", 7)``.

    Parts are joined with their type, so ``("a", 1)`` and ``("a", "1")`` differ. 63 bits fit a
    signed integer, which is what ``torch.Generator.manual_seed`` takes. Its CPU generator heeds the
    lowest 32 bits alone: seeds s and s + 2**32 give equal noise. Of n samples about n²/2**33 pairs
    thus share their noise (one pair in 93,000), each in groups or evaluations of their own mostly,
    where it does no harm.
    """
    text = "\x1f".join(f"{type(part).__name__}:{part}" for part in parts)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def numpy_rng(*parts: str | int) -> np.random.Generator:
    """A numpy generator seeded by :func:`derive_seed`."""
    return np.random.Generator(np.random.PCG64(derive_seed(*parts)))
