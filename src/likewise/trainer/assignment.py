"""The recipe's credit rule: rewards of all groups → advantages A[b, t] (docs/method.md §2)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from likewise.algorithm.credit import complete, group_zscore
from likewise.algorithm.gains import step_gains
from likewise.algorithm.rules import RULES, Rewards
from likewise.algorithm.timeweights import TIME_WEIGHTS, Steps, per_reward
from likewise.config.credit_rules import TimeWeights
from likewise.config.recipe import Recipe
from likewise.rollout.steps import StepPlan, loop_orders


@dataclass(frozen=True)
class Assignment:
    """Who gets credit for what in one iteration, for K rewards, B samples and T steps.

    Attributes:
        complete: Samples that have every reward that advantages depend on, bool [B]; all others
            get no credit.
        z: Rewards in standard deviations from their group's mean, [K, B], diagnostics too.
        known: Where a complete sample has that reward too, bool [K, B]; z is 0 elsewhere.
        shaped: The part of the advantages that does not depend on the step, before clipping, [B]: a
            shaping term, which is added to the weighted sum of z, or a combined reward.
        stands_alone: Whether it is a combined reward, which replaces that sum.
        weights: Of each z at each step, [K, T] (or [K, B, T], see `timeweights.tdw_as_released`);
            0 for diagnostics.
        advantages: [B, T].
        floors: Of the gate, measured for each sample's kind of task, [B]; None where none are.
        gains, step_z: By how much each trained step changed each reward, and what the rule made of
            it in standard deviations, [K, B, m], NaN where missing, and for diagnostics; None for
            rules that need no gains.
    """

    complete: Tensor
    z: Tensor
    known: Tensor
    shaped: Tensor
    stands_alone: bool
    weights: Tensor
    advantages: Tensor
    floors: Tensor | None = None
    gains: Tensor | None = None
    step_z: Tensor | None = None

    @property
    def parts(self) -> Tensor:
        """Each reward's part of the advantages, w_k(t)·z_k before clipping, [K, B, T].

        They add up to what is not `shaped`; 0 for diagnostics, and for rules that stand alone.
        Not of rules that need gains, whose z differ from step to step.
        """
        weights = self.weights if self.weights.ndim == 3 else self.weights[:, None]
        return weights * self.z[:, :, None]


def assign_credit(
    values: Tensor,
    valid: Tensor,
    recipe: Recipe,
    plan: StepPlan,
    iteration: int,
    floors: Tensor | None = None,
    finished: Tensor | None = None,
    time_weights: TimeWeights | None = None,
) -> Assignment:
    """Credit for rewards [K, B] in the order of ``recipe.rewards``; groups are neighbours.

    Args:
        values: float32 [K, B]; what it holds where not valid is ignored.
        valid: bool [K, B].
        plan: The steps of this iteration.
        iteration: 1, 2, …
        floors: [B], see `floors.Floors`; only a rule that measures them needs any.
        finished: [K, B, T+1], see `scoring.Scores`; only a rule that needs gains needs it.
        time_weights: Instead of the recipe's, see `timing.Timing`.
    """
    settings, rule, group = recipe.credit, recipe.credit.shaping, recipe.rollout.group_size
    names, credited = list(recipe.rewards), recipe.credited
    own = [names.index(name) for name in credited]
    weights = _step_weights(recipe, time_weights, plan, len(values[0]), iteration)
    gains = None if finished is None else step_gains(finished, plan.trained)
    whole = _complete(recipe, weights, values, valid, gains)
    pairs = zip(values, valid & whole, strict=True)
    z = torch.stack([group_zscore(*pair, group, settings.std_floor) for pair in pairs])
    rewards = Rewards(
        names=list(credited),
        sides=[reward.side for reward in credited.values()],
        values=values[own],
        z=z[own],
        complete=whole,
        weights=[reward.weight for reward in credited.values()],
        step_weights=weights[own],
        group_size=group,
        std_floor=settings.std_floor,
        clip=settings.clip,
        floors=floors,
        steps=plan.trained,
        finished=None if finished is None else finished[own],
    )
    advantages = RULES[rule.kind](rewards, rule)
    return Assignment(
        complete=whole,
        z=z,
        known=whole & valid & values.isfinite(),
        shaped=advantages.shaped,
        stands_alone=rule.stands_alone,
        weights=weights,
        advantages=advantages.values,
        floors=floors,
        gains=gains,
        step_z=_at(own, advantages.step_z, len(names)),
    )


def _complete(
    recipe: Recipe, weights: Tensor, values: Tensor, valid: Tensor, gains: Tensor | None
) -> Tensor:
    """Samples that have every reward, and every gain, that advantages depend on: bool [B]."""
    rule, names = recipe.credit.shaping, list(recipe.rewards)
    own = [
        names.index(name)
        for name, reward in recipe.credited.items()
        if weights[names.index(name)].any() or rule.depends_on(name, reward.weight)
    ]
    whole = complete(values[own], valid[own])
    return whole if gains is None else whole & gains[own].isfinite().all(-1).all(0)


def _at(own: list[int], some: Tensor | None, count: int) -> Tensor | None:
    """Of all `count` rewards, from what is known of `own`; NaN for the others."""
    if some is None:
        return None
    every = some.new_full((count, *some.shape[1:]), torch.nan)
    return every.index_copy(0, torch.tensor(own), some)


def _step_weights(
    recipe: Recipe, rule: TimeWeights | None, plan: StepPlan, samples: int, iteration: int
) -> Tensor:
    """Weight of each reward's z at each step, [K, T] (or [K, B, T]).

    0 for diagnostics; 0 throughout for a rule that stands alone.
    """
    settings, count = recipe.rollout, recipe.rollout.num_steps
    if recipe.credit.shaping.stands_alone:
        return torch.zeros(len(recipe.rewards), count)
    rule = rule or recipe.credit.time_weights
    steps = Steps(count, lambda: loop_orders(settings, plan, samples, recipe.seed, iteration))
    sides = [one.side for one in recipe.credited.values() if one.side != "diagnostic"]
    shares = per_reward(TIME_WEIGHTS[rule.kind](rule, steps), sides)
    own = [k for k, name in enumerate(recipe.rewards) if name in recipe.credited]
    zeros = shares.new_zeros(len(recipe.rewards), *shares.shape[1:])
    return zeros.index_copy(0, torch.tensor(own), shares)
