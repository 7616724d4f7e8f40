"""How much raters agree beyond chance: Krippendorff's α."""

from __future__ import annotations

import numpy as np


def krippendorff_alpha(ratings: np.ndarray, nominal: bool = False) -> float | None:
    """1 where all raters agree, 0 where they agree as often as chance would have it.

    α = 1 − D_observed / D_expected over all pairs of ratings of the same unit (Krippendorff,
    Content Analysis, 2004, chapter 11). Units with fewer than two ratings say nothing.

    Args:
        ratings: float [raters, units], NaN where a rater did not rate a unit.
        nominal: Whether two different values differ by 1; else by their squared distance.

    Returns:
        None where there are no two different ratings, so that chance would always agree.
    """
    values = np.unique(ratings[~np.isnan(ratings)])
    counts = (ratings[:, :, None] == values).sum(0).astype(float)  # [units, values]
    counts = counts[counts.sum(1) >= 2]
    gap = values[:, None] - values[None, :]
    distance = (gap != 0).astype(float) if nominal else gap**2
    per_unit = counts.sum(1)
    together = (counts / (per_unit - 1)[:, None]).T @ counts
    together -= np.diag((counts / (per_unit - 1)[:, None]).sum(0))
    totals = together.sum(1)
    n = totals.sum()
    if n < 2:
        return None
    expected = (np.outer(totals, totals) * distance).sum() / (n - 1)
    return float(1 - (together * distance).sum() / expected) if expected > 0 else None


def preference_alpha(outcomes: np.ndarray) -> float | None:
    """α of votes on pairs of images; which image of a pair comes first makes no difference.

    If one system wins nearly always, α of its wins would be low however well raters agree, since
    chance would agree too. But the order of a pair is arbitrary, so every pair counts in both
    orders, and chance has wins on either side equally likely.

    Args:
        outcomes: float [raters, pairs]: 1, 0.5 (tie) or 0; NaN where there is no vote.
    """
    centred = outcomes - 0.5
    return krippendorff_alpha(np.concatenate([centred, -centred], axis=1))
