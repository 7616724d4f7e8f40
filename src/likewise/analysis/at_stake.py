"""The images of a run that credit is about."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa


def at_stake(rewards: pa.Table, names: Sequence[str]) -> pa.Table:
    """Rows that have every credited reward and a z ≠ 0 in one of `names`."""
    kept = rewards["complete"].to_numpy() & (z_scores(rewards, names) != 0).any(0)
    return rewards.filter(pa.array(kept))


def z_scores(table: pa.Table, names: Sequence[str]) -> np.ndarray:
    """How far images are from their group's mean, in its std: float64 [names, images]."""
    return np.stack([table[f"z/{name}"].to_numpy() for name in names])
