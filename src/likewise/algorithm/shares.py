"""Shares of steps in a reward's variance, from groups that differ by the noise of known steps.

Where the samples of a group begin with one noise and only the steps of a window are random, all
that their rewards differ by is due to these steps (docs/method.md §2).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from likewise.algorithm.transitions import precise


def variances_in_groups(values: Tensor, valid: Tensor, group_size: int) -> Tensor:
    """Mean over groups of a reward's variance inside a group: float64 [K], NaN where unknown.

    Args:
        values: K rewards of B samples [K, B]; groups are neighbours.
        valid: bool [K, B]. Groups with fewer than two valid samples do not count.
        group_size: G.
    """
    grouped = precise(values).double().reshape(len(values), -1, group_size)
    known = (valid & values.isfinite()).reshape(grouped.shape)
    count = known.sum(-1)
    kept = torch.where(known, grouped, 0.0)
    apart = torch.where(known, grouped - (kept.sum(-1) / count.clamp_min(1))[..., None], 0.0)
    variance = apart.square().sum(-1) / (count - 1).clamp_min(1)
    counts = count > 1
    return torch.where(counts, variance, 0.0).sum(-1) / counts.sum(-1)  # 0/0 is NaN


def step_shares(windows: Sequence[Sequence[int]], variances: Tensor, num_steps: int) -> Tensor:
    """Each step's part of the variances, float64 [K, T]; they sum to 1 over steps, or all are 0.

        part(t) ∝ mean over windows that hold t of (variance in the window)/(steps in the window)

    So a window's steps share its variance equally: with windows of m steps a profile is blurred by
    m − 1 steps to both sides. A step that no window holds has 0.

    Args:
        windows: Random steps of each of W iterations, by true index in the schedule.
        variances: [K, W], see :func:`variances_in_groups`; NaN where unknown.
        num_steps: T.
    """
    parts, seen = (torch.zeros(len(variances), num_steps, dtype=torch.float64) for _ in range(2))
    for window, variance in zip(windows, variances.T, strict=True):
        known = variance.isfinite()
        steps = list(window)
        parts[:, steps] += torch.where(known, variance, 0.0)[:, None] / len(steps)
        seen[:, steps] += known[:, None]
    means = parts / seen.clamp_min(1)
    return means / means.sum(1, keepdim=True).clamp_min(torch.finfo(torch.float64).tiny)
