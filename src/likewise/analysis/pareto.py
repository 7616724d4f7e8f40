"""Two aims at once: which points nothing beats, and how much they dominate. Larger is better."""

from __future__ import annotations

import numpy as np


def front(points: np.ndarray) -> np.ndarray:
    """Which points [n, 2] no other point dominates: bool [n].

    One point dominates another if it is at least as good in both and better in one; so equal points
    stand on the front together. A point with NaN is not on it, and dominates nothing.
    """
    points = _pairs(points)
    no_worse = (points[:, None] >= points).all(-1)
    better = (points[:, None] > points).any(-1)
    return ~(no_worse & better).any(0) & ~np.isnan(points).any(1)


def hypervolume(points: np.ndarray, reference: np.ndarray) -> float:
    """Area of all that is above `reference` [2] and that some point of [n, 2] dominates.

    In the product of the two units. Points not above the reference in both add nothing.
    """
    points, reference = _pairs(points), np.asarray(reference, dtype=np.float64)
    kept = points[(points > reference).all(1)]
    kept = kept[np.argsort(-kept[:, 0])]
    # From right to left: a column from each point to the next, as high as the best so far.
    heights = np.maximum.accumulate(kept[:, 1]) - reference[1]
    widths = -np.diff(kept[:, 0], append=reference[0])
    return float((widths * heights).sum())


def _pairs(points: np.ndarray) -> np.ndarray:
    """float64 [n, 2]; n may be 0."""
    return np.asarray(points, dtype=np.float64).reshape(-1, 2)
