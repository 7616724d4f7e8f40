"""The recipe's credit rule: rewards of all groups → advantages A[b, t] (docs/method.md §2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from likewise.algorithm import shaping, timeweights
from likewise.algorithm.credit import advantages, complete, group_zscore
from likewise.config.credit import (
    Constant,
    Credit,
    HarmonicBonus,
    Measured,
    NoShaping,
    Sars,
    Single,
    TimeWeights,
    Total,
)
from likewise.config.recipe import Recipe

WEIGHTED = ("weighted-sum", "gdpo", "raw-sum")  # totals in which a reward's weight counts


@dataclass(frozen=True)
class Assignment:
    """Who gets credit for what in one iteration, for K rewards, B pictures and T steps.

    Attributes:
        complete: Samples that have every reward that advantages depend on, bool [B]; all others
            get no credit.
        z: Rewards in standard deviations from their group's mean, [K, B], diagnostics too.
        known: Where a complete sample has that reward too, bool [K, B]; z is 0 elsewhere.
        bonus: What does not depend on the step, [B]: a bonus, or a total.
        is_total: Whether `bonus` stands in place of the weighted sum of z instead of on top of it.
        weights: Of each z at each step, [K, T] (or [K, B, T], see `timeweights.tdw_as_released`);
            0 for diagnostics.
        advantages: [B, T].
    """

    complete: Tensor
    z: Tensor
    known: Tensor
    bonus: Tensor
    is_total: bool
    weights: Tensor
    advantages: Tensor


def assign_credit(values: Tensor, valid: Tensor, recipe: Recipe, orders: Tensor) -> Assignment:
    """Credit for rewards [K, B] in the order of ``recipe.rewards``; groups are neighbours.

    Args:
        values: float32 [K, B]; what it holds where not valid is ignored.
        valid: bool [K, B].
        orders: Steps in each picture's own order [B, N] (`rollout.steps.loop_orders`).
    """
    settings, group = recipe.credit, recipe.rollout.group_size
    names = list(recipe.rewards)
    own = [names.index(name) for name in recipe.credited]
    weights = _step_weights(recipe, own, orders)
    trained = [k for k in own if weights[k].any() or _shapes(recipe, names[k])]
    whole = complete(values[trained], valid[trained])
    z = torch.stack(
        [
            group_zscore(row, whole & known, group, settings.std_floor)
            for row, known in zip(values, valid, strict=True)
        ]
    )
    bonus = _bonus(settings, recipe, values[own], z[own], whole)
    return Assignment(
        complete=whole,
        z=z,
        known=whole & valid & values.isfinite(),
        bonus=bonus,
        is_total=isinstance(settings.shaping, Total | Single),
        weights=weights,
        advantages=advantages(z, weights, bonus, settings.clip, whole),
    )


def _step_weights(recipe: Recipe, own: Sequence[int], orders: Tensor) -> Tensor:
    """Weight of each reward's z at each step, [K, T] (or [K, B, T]); all 0 beside a total.

    Args:
        own: Places of the credited rewards.
    """
    settings, num_steps = recipe.credit, recipe.rollout.num_steps
    if isinstance(settings.shaping, Total | Single):
        return torch.zeros(len(recipe.rewards), num_steps)
    prompt = _prompt_weight(settings.time_weights, num_steps, orders)
    sides = [one.side for one in recipe.credited.values() if one.side != "diagnostic"]
    shares = timeweights.per_reward(prompt, sides)
    zeros = shares.new_zeros(len(recipe.rewards), *shares.shape[1:])
    return zeros.index_copy(0, torch.tensor(own), shares)


def _shapes(recipe: Recipe, name: str) -> bool:
    """Whether a credited reward has a part in the bonus or total; see :func:`_bonus`."""
    rule = recipe.credit.shaping
    if isinstance(rule, NoShaping):
        return False
    if isinstance(rule, Single):
        return name == rule.reward
    if isinstance(rule, Total):
        return rule.kind not in WEIGHTED or recipe.rewards[name].weight > 0
    return rule.gamma > 0


def _bonus(settings: Credit, recipe: Recipe, values: Tensor, z: Tensor, whole: Tensor) -> Tensor:
    """What is added to the weighted sum of the credited z, or stands in its place: [B]."""
    rule = settings.shaping
    own = [reward.weight for reward in recipe.credited.values()]
    if isinstance(rule, NoShaping):
        return torch.zeros_like(z[0])
    if isinstance(rule, Sars):
        return shaping.sars(z, rule.gamma)
    if isinstance(rule, HarmonicBonus):
        return shaping.harmonic_bonus(z, rule.gamma)
    if isinstance(rule, Single):
        return z[list(recipe.credited).index(rule.reward)]
    return _total(rule, settings, recipe.rollout.group_size, own, values, z, whole)


def _total(
    rule: Total,
    settings: Credit,
    group_size: int,
    own: Sequence[float],
    values: Tensor,
    z: Tensor,
    whole: Tensor,
) -> Tensor:
    if rule.kind == "minimum":
        return shaping.minimum(z)
    if rule.kind == "maximum":
        return shaping.maximum(z)
    if rule.kind == "product":
        return shaping.product(z)
    if rule.kind == "weighted-sum":
        return shaping.weighted_sum(z, own)
    if rule.kind == "gdpo":
        return shaping.gdpo(z, own, whole)
    raw = shaping.weighted_sum(values, own)  # raw-sum, as Flow-GRPO does
    return group_zscore(raw, whole, group_size, settings.std_floor)


def _prompt_weight(rule: TimeWeights, num_steps: int, orders: Tensor) -> Tensor:
    """Weight of the prompt side at each step, [T] (or [B, T])."""
    if isinstance(rule, Constant):
        return timeweights.constant(num_steps, rule.prompt)
    if isinstance(rule, Measured):
        return timeweights.measured(rule.prompt, rule.identity)
    levels = (rule.high, rule.low, rule.final)
    if rule.kind == "tdw":
        return timeweights.tdw(num_steps, *levels)
    if rule.kind == "reversed-tdw":
        return timeweights.reversed_tdw(num_steps, *levels)
    return timeweights.tdw_as_released(num_steps, orders, *levels)
