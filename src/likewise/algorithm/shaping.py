"""From several z-scores to one number per sample: SARS, and its rivals (docs/method.md §2).

One interface: a function takes z [K, B] and settings, and returns float32 [B] that is 0 where all
z are 0 (an average sample, or a missing one). What it is differs, and each docstring says which:

- a **shaping term** is added to the weighted sum of z, whose weights may depend on the step:
  `credit.advantages(z, weights, shaping_term)`;
- a **combined reward** stands alone, the same at every step: ``weights=torch.zeros(K, T)``.

Everything is symmetric in the rewards, except where weights are given. K ≥ 2 unless weighted.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from likewise.algorithm.credit import STD_FLOOR, standardise
from likewise.algorithm.transitions import precise


def sars(z: Tensor, gamma: float) -> Tensor:
    """Synergy-Aware Reward Shaping: a **shaping term** [B] in (−γ, γ) (arXiv:2510.18263).

        S = +γ·tanh(z_p·z_i)   if z_p > 0 or z_i > 0   (synergy amplified, conflict penalised)
        S = −γ·tanh(z_p·z_i)   if both ≤ 0             (bad at both: penalised further)

    For K > 2 the mean over all pairs of rewards, our extension, equal to the above at K = 2.

    Args:
        z: [K, B].
        gamma: γ ≥ 0; the paper's run 0.4, also 0.5.

    Raises:
        ValueError: K < 2, or γ is negative.
    """
    if gamma < 0:
        raise ValueError(f"gamma must not be negative, not {gamma}")
    return gamma * _pair_mean(z, lambda p, i: _synergy_sign(p, i) * (p * i).tanh())


def weighted_sum(values: Tensor, weights: Sequence[float]) -> Tensor:
    """Σ_k w_k·values_k: a **combined reward** [B]. The weights are used as given, not normalised.

    On z: the naive linear baseline without SARS and TDW, or a single reward (``[1.0, 0.0]``). On
    *raw* rewards: what Flow-GRPO feeds to :func:`credit.group_zscore` afterwards; missing rewards
    (NaN) then stay NaN, which that function takes as missing.

    Raises:
        ValueError: not one weight per reward.
    """
    if len(weights) != len(values):
        raise ValueError(f"{len(weights)} weights for {len(values)} rewards: wanted one each")
    # A loop, not a matrix product: 0·NaN must not spoil the sum where a reward has no part in it.
    parts = [w * reward for w, reward in zip(weights, precise(values), strict=True) if w != 0]
    return torch.stack(parts).sum(0) if parts else torch.zeros_like(precise(values[0]))


def minimum(z: Tensor) -> Tensor:
    """min_k z_k: a **combined reward** [B] that rewards only what every reward likes."""
    _check_several(z)
    return precise(z).amin(0)


def maximum(z: Tensor) -> Tensor:
    """max_k z_k: a **combined reward** [B] that is content with one side of a conflict."""
    _check_several(z)
    return precise(z).amax(0)


def harmonic(z: Tensor, gamma: float = 0.4) -> Tensor:
    """γ times half the harmonic mean, made safe: a **shaping term** [B], to go with TDW or not.

        H = ±z_p·z_i/(|z_p| + |z_i|),    − where both ≤ 0, as in :func:`sars`;    H = 0 at (0, 0)

    Where the signs agree this is z_p·z_i/(z_p + z_i), the form in the paper's released code. That
    one is singular at z_p ≈ −z_i and turns a conflict into a reward beyond it. Ours is continuous,
    penalises every conflict, and is bounded: |H| ≤ min(|z_p|, |z_i|). K > 2: mean over pairs.

    Raises:
        ValueError: K < 2, or γ is negative.
    """
    if gamma < 0:
        raise ValueError(f"gamma must not be negative, not {gamma}")

    def safe(p: Tensor, i: Tensor) -> Tensor:
        # Whichever is larger first: its quotient by the sum lies in [½, 1], so nothing overflows.
        size = (p.abs() + i.abs()).clamp_min(torch.finfo(p.dtype).tiny)
        return _synergy_sign(p, i) * (p / size) * i

    return gamma * _pair_mean(z, safe)


def product(z: Tensor) -> Tensor:
    """Π_k softplus(z_k) − (log 2)^K: a **combined reward** [B].

    Softplus makes each factor positive, so that two bad scores do not multiply to a good one. The
    constant is the product's value at z = 0, as in the released code (there at weights 1:1).
    """
    _check_several(z)
    return F.softplus(precise(z)).prod(0) - math.log(2) ** len(z)


def gdpo(z: Tensor, weights: Sequence[float], valid: Tensor | None = None) -> Tensor:
    """GDPO: weighted sum of z, then normalised over the whole batch: a **combined reward** [B].

        s = Σ_k w_k·z_k,    r = (s − mean_B s)/(std_B s + 1e-8)      (arXiv:2601.05242)

    The batch is all samples of all groups of one iteration, across processes: gather first.

    Args:
        valid: bool [B]; others leave the statistics and get 0. None: all are valid.

    Raises:
        ValueError: not one weight per reward.
    """
    summed = weighted_sum(z, weights)
    valid = torch.ones_like(summed, dtype=torch.bool) if valid is None else valid
    return standardise(summed.masked_fill(~valid, 0)[None], valid[None], STD_FLOOR)[0]


def gd2po(
    z: Tensor,
    weights: Sequence[float],
    valid: Tensor,
    group_size: int,
    threshold: float = 1.0,
    whiten: Literal["batch", "group"] = "batch",
) -> Tensor:
    """GD²PO: GDPO without the samples whose rewards disagree: a **combined reward** [B].

        s = Σ_k w_k·z_k,    dropped where |s| < τ·Σ_k |w_k·z_k|,    ρ = share kept in the group
        "batch": r = (ρ·s − mean)/(std + 1e-8), over all kept samples (the published code)
        "group": r = ρ·(s − mean)/(std + 1e-8), over the kept samples of each group

    See arXiv:2606.16771. Dropped samples get 0. The quotient |Σ|/Σ|·| is 1 where all signs agree
    and 0 where the rewards cancel, for any K; for K = 2 it is |z_1 + z_2|/(|z_1| + |z_2|). So τ = 1
    drops every sample whose signs differ (hard), and a smaller τ those that nearly cancel (soft;
    published 0.2 to 0.8). By group ρ comes last, as it would cancel otherwise.

    Groups whose z are all 0 say nothing, and are left out like a group in which nothing is kept;
    fewer than two kept samples, or equal ones, have no deviation and get 0.

    Args:
        z: [K, B], all samples of all groups of one iteration.
        weights: Of the K rewards; the published code's are 1.
        valid: bool [B]; others leave statistics and shares, and get 0.
        group_size: G; each G neighbours are one group.
        threshold: τ in (0, 1].

    Raises:
        ValueError: not one weight per reward.
    """
    net = weighted_sum(z, weights)
    gross = weighted_sum(z.abs(), weights)
    groups = (-1, group_size)
    at_stake = (gross.reshape(groups) > 0).any(1, keepdim=True)
    valid = valid.reshape(groups)
    kept = valid & at_stake & (net.abs() >= threshold * gross).reshape(groups)
    share = kept.sum(1, keepdim=True) / valid.sum(1, keepdim=True).clamp_min(1)
    net = net.reshape(groups).masked_fill(~kept, 0)
    if whiten == "group":
        return (share * standardise(net, kept)).flatten()
    return standardise((share * net).reshape(1, -1), kept.reshape(1, -1))[0]


def hinge_gate(main: Tensor, gate: Tensor, floor: Tensor | float, penalty: float) -> Tensor:
    """DivRL's gated reward, still raw: float32 [B], to be standardised (arXiv:2606.23950).

        r = r_main − λ·max(0, m − r_gate)²

    The gate costs nothing above its floor m, and ever more below: a constraint, where a weighted
    sum would trade one reward for the other.

    Args:
        main, gate: Raw rewards [B]; NaN stays NaN, which `credit.group_zscore` takes as missing.
        floor: m, one number or [B], in units of the gate's reward; published 0.5 to 0.6.
        penalty: λ > 0; published 5.
    """
    return precise(main) - penalty * (floor - precise(gate)).clamp_min(0).square()


def _synergy_sign(p: Tensor, i: Tensor) -> Tensor:
    """+1 where at least one is positive, −1 where both are ≤ 0."""
    return torch.where((p > 0) | (i > 0), 1.0, -1.0).to(p.dtype)


def _pair_mean(z: Tensor, shape: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """Mean of shape(z_j, z_k) over all pairs j < k: [B]."""
    _check_several(z)
    pairs = itertools.combinations(precise(z), 2)
    return torch.stack([shape(p, i) for p, i in pairs]).mean(0)


def _check_several(z: Tensor) -> None:
    if z.ndim != 2 or len(z) < 2:
        raise ValueError(f"wanted z [K, B] of at least 2 rewards, got {list(z.shape)}")
