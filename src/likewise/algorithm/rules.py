"""Credit rules: from the rewards of an iteration to advantages A[b, t] (docs/method.md §2).

A rule is one function of the rewards and of its section of the recipe, `credit.shaping`. `RULES`
names it by the section's `kind`; docs/extending.md adds one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from likewise.algorithm import shaping
from likewise.algorithm.credit import advantages, group_zscore
from likewise.algorithm.gains import gain_zscore, step_gains, with_turning_points
from likewise.config.credit_rules import (
    Combined,
    Gains,
    Gd2po,
    Harmonic,
    HingeGate,
    NoShaping,
    Sars,
    Single,
    WeightedSum,
)


@dataclass(frozen=True)
class Rewards:
    """What a rule may know of an iteration: K credited rewards of B samples, for T steps.

    Attributes:
        names: Of the K rewards, in the recipe's order.
        sides: Of the conflict, which each of them stands for: "prompt" or "identity".
        values: As they were scored, float32 [K, B]; anything where a reward is missing.
        z: In standard deviations from the mean of their group, [K, B]; 0 where not complete.
        complete: Samples that have every reward that credit depends on, bool [B].
        weights: The recipe's `weight` of each reward, K numbers ≥ 0.
        step_weights: Time weights of each reward at each step, [K, T], or [K, B, T] where samples
            differ; 0 for rules that stand alone.
        group_size: G; each G neighbouring samples are one group.
        std_floor: As for :func:`credit.group_zscore`.
        clip: Bound of |A|.
        floors: Of the gate, measured for each sample's kind of task, float32 [B]; None for rules
            that measure none.
        steps: Trained steps, ascending.
        finished: Rewards of the images that each sample's latents before each step lead to along
            the ODE, float32 [K, B, T+1], NaN where missing or not asked for; None for rules that
            need no gains.
    """

    names: Sequence[str]
    sides: Sequence[str]
    values: Tensor
    z: Tensor
    complete: Tensor
    weights: Sequence[float]
    step_weights: Tensor
    group_size: int
    std_floor: float
    clip: float
    floors: Tensor | None = None
    steps: Sequence[int] = ()
    finished: Tensor | None = None


@dataclass(frozen=True)
class Advantages:
    """What a rule returns.

    Attributes:
        values: float32 [B, T], within ±clip; 0 where a sample is not complete.
        shaped: The part of them that does not depend on the step, [B]: a shaping term, or a
            combined reward.
        step_z: What was weighted at each trained step, [K, B, m]; None where it is z.
    """

    values: Tensor
    shaped: Tensor
    step_z: Tensor | None = None


Rule = Callable[[Rewards, Any], Advantages]


def by_step(rewards: Rewards, shaping_term: Tensor) -> Advantages:
    """A[b, t] = Σ_k w_k(t)·z_k[b] + S[b]."""
    weights, clip = rewards.step_weights, rewards.clip
    found = advantages(rewards.z, weights, shaping_term, clip, rewards.complete)
    return Advantages(found, shaping_term)


def every_step(rewards: Rewards, combined: Tensor) -> Advantages:
    """A[b, t] = combined[b]: of rules that stand alone (`config.credit_rules.Rule`)."""
    none, clip = torch.zeros(len(rewards.z), rewards.step_weights.shape[-1]), rewards.clip
    return Advantages(advantages(rewards.z, none, combined, clip, rewards.complete), combined)


def none(rewards: Rewards, settings: NoShaping) -> Advantages:
    """The weighted sum alone: naive linear, or TDW without SARS."""
    return by_step(rewards, torch.zeros_like(rewards.z[0]))


def sars(rewards: Rewards, settings: Sars) -> Advantages:
    """The weighted sum with SARS as the shaping term: the paper's method, with TDW's weights."""
    return by_step(rewards, shaping.sars(rewards.z, settings.gamma))


def harmonic(rewards: Rewards, settings: Harmonic) -> Advantages:
    """The weighted sum with half the harmonic mean as the shaping term."""
    return by_step(rewards, shaping.harmonic(rewards.z, settings.gamma))


def gains(rewards: Rewards, settings: Gains) -> Advantages:
    """The weighted sum of z of gains: A[b, t] = clamp(Σ_k w_k(t)·z_k[b, t], ±clip), 0 elsewhere.

    Raises:
        ValueError: no image was finished.
    """
    if rewards.finished is None:
        raise ValueError("credit.shaping 'gains' needs rewards of images finished from each step")
    steps, complete, weights = list(rewards.steps), rewards.complete, rewards.step_weights
    found = step_gains(rewards.finished, steps)
    if settings.turning:
        found = with_turning_points(rewards.finished, rewards.values, steps, complete)
    by_step = settings.whiten == "step"
    z = gain_zscore(found, complete, rewards.group_size, by_step, rewards.std_floor)
    none = torch.zeros_like(rewards.z[0])
    values = none[:, None].repeat(1, weights.shape[-1])
    for own, t in zip(z.unbind(-1), steps, strict=True):
        values[:, [t]] = advantages(own, weights[..., [t]], none, rewards.clip, complete)
    return Advantages(values, none, z)


def minimum(rewards: Rewards, settings: Combined) -> Advantages:
    """The reward that likes the sample least."""
    return every_step(rewards, shaping.minimum(rewards.z))


def maximum(rewards: Rewards, settings: Combined) -> Advantages:
    """The reward that likes the sample most."""
    return every_step(rewards, shaping.maximum(rewards.z))


def product(rewards: Rewards, settings: Combined) -> Advantages:
    """The product of rewards."""
    return every_step(rewards, shaping.product(rewards.z))


def weighted_sum(rewards: Rewards, settings: WeightedSum) -> Advantages:
    """The sum of z by the weights of the recipe."""
    return every_step(rewards, shaping.weighted_sum(rewards.z, rewards.weights))


def gdpo(rewards: Rewards, settings: WeightedSum) -> Advantages:
    """The sum of z by the weights of the recipe, normalised over the batch."""
    return every_step(rewards, shaping.gdpo(rewards.z, rewards.weights, rewards.complete))


def raw_sum(rewards: Rewards, settings: WeightedSum) -> Advantages:
    """One z of the sum of raw rewards by the weights of the recipe, as Flow-GRPO does."""
    summed = shaping.weighted_sum(rewards.values, rewards.weights)
    z = group_zscore(summed, rewards.complete, rewards.group_size, rewards.std_floor)
    return every_step(rewards, z)


def gd2po(rewards: Rewards, settings: Gd2po) -> Advantages:
    """The sum of z by the weights of the recipe, without samples whose rewards disagree."""
    combined = shaping.gd2po(
        rewards.z,
        rewards.weights,
        rewards.complete,
        rewards.group_size,
        settings.threshold,
        settings.whiten,
    )
    return every_step(rewards, combined)


def hinge_gate(rewards: Rewards, settings: HingeGate) -> Advantages:
    """One z of the main side's raw rewards, less a penalty where the gate is below its floor.

    Raises:
        ValueError: the floor is to be measured, and was not.
    """
    floor = rewards.floors if settings.floor == "measured" else settings.floor
    if floor is None:
        raise ValueError("credit.shaping.floor is measured, but no floors were: give a number")
    main = _of_side(rewards, "identity" if settings.gate == "prompt" else "prompt")
    gate = _of_side(rewards, settings.gate)
    raw = shaping.hinge_gate(main, gate, floor, settings.penalty)
    z = group_zscore(raw, rewards.complete, rewards.group_size, rewards.std_floor)
    return every_step(rewards, z)


def single(rewards: Rewards, settings: Single) -> Advantages:
    """One reward alone."""
    return every_step(rewards, rewards.z[list(rewards.names).index(settings.reward)])


def _of_side(rewards: Rewards, side: str) -> Tensor:
    """The raw rewards of one side, summed by the weights of the recipe: float32 [B]."""
    pairs = zip(rewards.weights, rewards.sides, strict=True)
    return shaping.weighted_sum(rewards.values, [w if own == side else 0.0 for w, own in pairs])


RULES: dict[str, Rule] = {
    "none": none,
    "sars": sars,
    "harmonic": harmonic,
    "gains": gains,
    "minimum": minimum,
    "maximum": maximum,
    "product": product,
    "weighted-sum": weighted_sum,
    "gdpo": gdpo,
    "raw-sum": raw_sum,
    "gd2po": gd2po,
    "hinge-gate": hinge_gate,
    "single": single,
}
