"""Gains: by how much the noise of one step changed a reward (docs/method.md §2).

R_t is the reward of the image that the latents before step t lead to along the ODE. The gain of
step t is the effect of its noise alone, since the ODE on both sides is the same:

    g_t = R_{t+1} − R_t

Shapes: K rewards, B samples, m trained steps of T. R is [K, B, T+1] with NaN where it was not
asked for or is missing.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from likewise.algorithm.credit import STD_FLOOR, standardise
from likewise.algorithm.transitions import precise


def step_gains(finished: Tensor, steps: Sequence[int]) -> Tensor:
    """g_t of each of m steps: [K, B, m], NaN where either R is.

    Args:
        finished: R [K, B, T+1].
        steps: Trained ones, ascending, by true index in the schedule.
    """
    before = list(steps)
    return finished[..., [t + 1 for t in before]] - finished[..., before]


def with_turning_points(
    finished: Tensor, final: Tensor, steps: Sequence[int], valid: Tensor
) -> Tensor:
    """The gains [K, B, m], replaced by the whole rest of the way at turning points.

        at a turning point: R_final − R_t instead of g_t

    A step is one where its gain has the sign of what comes after it, R_final − R_{t+1}, and where
    the trend turns there: the trained step before went against Δ, and this one goes along with it.
    The first trained step needs no turn. Δ = R_final − R_first is what all noise together did.

    Each reward then keeps as many turning points of rising trends as of falling ones, of the more
    frequent kind those whose Δ is largest; where one kind is absent, all (TurningPoint-GRPO,
    arXiv:2602.06422, as its published script configures it).

    Args:
        finished: R [K, B, T+1].
        final: Rewards of the samples themselves, R_final [K, B].
        steps: As for :func:`step_gains`.
        valid: bool [B]; others have no turning points.
    """
    gains = step_gains(finished, steps)
    rest = final[..., None] - finished[..., list(steps)]  # this step and all after it
    after = final[..., None] - finished[..., [t + 1 for t in steps]]
    trend = rest[..., :1].sign()
    along = gains.sign() * trend
    turns = torch.ones_like(gains, dtype=torch.bool)
    turns[..., 1:] = (along[..., :-1] < 0) & (along[..., 1:] > 0)
    turning = turns & (gains.sign() * after.sign() > 0) & valid[:, None]
    kept = torch.stack([_balanced(*one) for one in zip(turning, rest[..., :1], strict=True)])
    return torch.where(kept, rest, gains)


def gain_zscore(
    gains: Tensor, valid: Tensor, group_size: int, by_step: bool, floor: float = STD_FLOOR
) -> Tensor:
    """Gains in standard deviations from their mean: float32 [K, B, m].

    Args:
        gains: [K, B, m]; each G neighbouring samples are one group.
        valid: bool [B]; others, and gains that are not finite, leave the statistics and get 0.
        by_step: Mean and std are over the samples of a group at each step (TurningPoint-GRPO), so
            that all steps weigh the same. False: over samples and steps at once, so that a step
            whose noise moves a reward ten times as far weighs ten times as much; then z of one step
            need not have mean 0.
        floor: As for `credit.group_zscore`.
    """
    known = valid[:, None] & gains.isfinite()
    values = precise(gains).masked_fill(~known, 0)
    if by_step:
        values, known = values.movedim(-1, 1), known.movedim(-1, 1)  # [K, m, B]
    shape = (-1, group_size if by_step else group_size * gains.shape[-1])
    z = standardise(values.reshape(shape), known.reshape(shape), floor).reshape(values.shape)
    return z.movedim(1, -1) if by_step else z


def _balanced(turning: Tensor, trend: Tensor) -> Tensor:
    """As many turning points [B, m] of rising as of falling trends Δ [B, 1], the steepest."""
    rising, falling = turning & (trend > 0), turning & (trend < 0)
    least = int(min(rising.sum(), falling.sum()))
    if not least:
        return turning
    size = trend.abs().expand_as(turning)
    kept = torch.zeros_like(turning)
    for some in (rising, falling):
        points = some.nonzero()
        order = size[some].argsort(descending=True, stable=True)[:least]
        kept[tuple(points[order].T)] = True
    return kept
