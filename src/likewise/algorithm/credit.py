"""Who gets credit for what: raw rewards → z per group → advantages A[b, t] (docs/method.md §2).

A reward that is missing (failed reward model, timeout, NaN) is *missing*, never 0. How that is
carried, for rewards that are credited (diagnostics never come here):

1. :func:`complete` says which samples have every reward. A sample that lacks one is left out
   altogether, because credit for the others alone would teach one side of the conflict.
2. :func:`group_zscore`, given that mask for *every* reward, gives those samples z = 0 and computes
   all rewards' statistics over the same samples.
3. Shaping functions map z = 0 to 0; :func:`advantages` gives 0 to all that is not valid.

So a missing sample costs its group one sample, and pulls nobody anywhere.
"""

from __future__ import annotations

import torch
from torch import Tensor

from likewise.algorithm.transitions import precise

STD_FLOOR = 1e-6  # in units of the reward; float32 noise around one value stays below
EPSILON = 1e-8


def complete(rewards: Tensor, valid: Tensor) -> Tensor:
    """Which samples have every reward: bool [B].

    Args:
        rewards: [K, B], any values where not valid.
        valid: bool [K, B]; a non-finite reward counts as missing even where this is true.

    Raises:
        ValueError: shapes differ.
    """
    _check_same_shape("rewards", rewards, "valid", valid)
    return (valid & rewards.isfinite()).all(0)


def group_zscore(
    rewards: Tensor, valid: Tensor, group_size: int, floor: float = STD_FLOOR
) -> Tensor:
    """How far each sample's reward is from its group's mean, in the group's std: float32 [B].

        z[b] = (r[b] − mean)/(std + 1e-8), over the group's valid samples, std unbiased (n − 1)

    Missing samples get 0 and do not enter the statistics; what `rewards` holds there is ignored. A
    group with fewer than two valid samples, or whose std is below `floor`, gets 0 throughout: a
    difference that is only rounding must not be blown up to z = ±1.

    Args:
        rewards: One reward of B = groups × G samples [B]; each G neighbours are one group.
        valid: bool [B]; a non-finite reward counts as missing even where this is true.
        group_size: G ≥ 2.
        floor: In units of the reward, ≥ 0.

    Raises:
        ValueError: shapes differ, B is not a multiple of G, or G < 2 (no sample could stand out).
    """
    _check_same_shape("rewards", rewards, "valid", valid)
    if group_size < 2:
        raise ValueError(f"group_size must be at least 2, not {group_size}")
    if rewards.ndim != 1 or len(rewards) % group_size:
        raise ValueError(f"wanted [B] in groups of {group_size}, got {list(rewards.shape)}")
    groups = precise(rewards).reshape(-1, group_size)
    valid = valid.reshape(-1, group_size) & groups.isfinite()
    # z does not change when a group is shifted, but float32 is finer near 0, and a group of equal
    # values becomes exactly 0 whatever their size.
    top = groups.masked_fill(~valid, -torch.inf).amax(1, keepdim=True)
    return standardise((groups - top).masked_fill(~valid, 0), valid, floor).flatten()


def standardise(values: Tensor, valid: Tensor, floor: float = STD_FLOOR) -> Tensor:
    """Each row minus its mean, over its std + 1e-8, both over valid entries: like `values`.

    Entries that are not valid, and rows with fewer than two valid entries or std below `floor`,
    become 0.

    Args:
        values: [rows, n], finite everywhere.
        valid: bool [rows, n].
    """
    count = valid.sum(1, keepdim=True)
    mean = (values * valid).sum(1, keepdim=True) / count.clamp_min(1)
    centred = (values - mean) * valid
    std = (centred.square().sum(1, keepdim=True) / (count - 1).clamp_min(1)).sqrt()
    # Fewer than two valid entries have no deviation at all, so they need no case of their own.
    return (centred / (std + EPSILON)).masked_fill(std < floor, 0)


def advantages(
    z: Tensor, weights: Tensor, shaping_term: Tensor, clip: float, valid: Tensor | None = None
) -> Tensor:
    """The advantage of sample b at step t, float32 [B, T].

        A[b, t] = clamp( Σ_k w_k(t)·z_k[b] + S[b], −clip, clip )

    The paper's method passes TDW's weights, and SARS as the shaping term. A combined reward (see
    `shaping`) takes the term's place, with weights ``torch.zeros(K, T)``.

    Args:
        z: Scores [K, B] of :func:`group_zscore`, 0 where missing.
        weights: [K, T], or [K, B, T] where samples differ (`timeweights.tdw_as_released`). Column
            t belongs to the true step index t of the sampling schedule.
        shaping_term: S, [B].
        clip: > 0; the paper 5.
        valid: bool [B], see :func:`complete`; others get 0. None: all are valid.

    Raises:
        ValueError: shapes do not fit, or `clip` is not positive.
    """
    K, B = z.shape
    if (
        len(weights) != K
        or weights.ndim not in (2, 3)
        or (weights.ndim == 3 and len(weights[0]) != B)
    ):
        raise ValueError(
            f"z is [K={K}, B={B}]; weights must be [{K}, T] or [{K}, {B}, T], "
            f"not {list(weights.shape)}"
        )
    if not clip > 0:
        raise ValueError(f"clip must be positive, not {clip}")
    _check_same_shape("one reward's z", z[0], "shaping_term", shaping_term)
    weights = weights if weights.ndim == 3 else weights[:, None]
    found = (weights * precise(z)[:, :, None]).sum(0) + shaping_term[:, None]
    if valid is not None:
        _check_same_shape("one reward's z", z[0], "valid", valid)
        found = found.masked_fill(~valid[:, None], 0)
    return found.clamp(-clip, clip)


def _check_same_shape(name: str, one: Tensor, other_name: str, other: Tensor) -> None:
    if one.shape != other.shape:
        raise ValueError(
            f"{name} has shape {list(one.shape)}, but {other_name} has {list(other.shape)}"
        )
