"""Settings that a recipe holds and nothing would read, as it is otherwise: refused by name.

A field at its default is never refused, since nobody chose it. Whoever adds a field that only
counts in some combinations adds them here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from likewise.config.credit_rules import READ_WEIGHTS, Constant, Gd2po, Tdw
from likewise.config.data import Photos
from likewise.config.objectives import Grpo, OnPolicy
from likewise.config.policy_sections import FluxUno, SdIpAdapter
from likewise.config.rollout import AllSteps, RandomSteps, Rollout, WindowSteps
from likewise.config.section import Section

if TYPE_CHECKING:
    from likewise.config.recipe import Recipe


def silent_settings(recipe: Recipe) -> Iterator[str]:
    """One line for each setting that changes nothing, with what to do about it."""
    for check in (_guidance, _parts, _weights, _gains, _time_weights, _levels, _ratio, _evaluation):
        yield from check(recipe)


def chosen(section: Section, field: str) -> bool:
    """Whether a section has such a field, at another value than its default."""
    info = type(section).model_fields.get(field)
    if info is None:
        return False
    return getattr(section, field) != info.get_default(call_default_factory=True)


def _guidance(recipe: Recipe) -> Iterator[str]:
    policy = recipe.policy
    scale = "guidance_scale" if isinstance(policy, SdIpAdapter) else "true_cfg_scale"
    if policy.forwards == 1 and hasattr(policy, scale):
        for field in ("negative_prompt", "batched_cfg"):
            if chosen(policy, field):
                yield (
                    f"policy.{field} has no effect where policy.{scale} is 1, which switches "
                    "guidance off: leave it out"
                )


def _parts(recipe: Recipe) -> Iterator[str]:
    policy = recipe.policy
    if isinstance(policy, FluxUno) and policy.uno_lora is None and chosen(policy, "merge_uno"):
        yield "policy.merge_uno has no effect without policy.uno_lora: leave it out"
    if isinstance(policy, SdIpAdapter) and policy.ip_adapter is None:
        for field in ("ip_adapter_weights", "image_encoder"):
            if chosen(policy, field):
                yield f"policy.{field} has no effect without policy.ip_adapter: leave it out"


def _weights(recipe: Recipe) -> Iterator[str]:
    shaping = recipe.credit.shaping
    weights = {name: reward.weight for name, reward in recipe.credited.items()}
    if shaping.weighted and not any(weights.values()):
        yield "rewards all have weight 0, so there is nothing to learn"
    elif isinstance(shaping, Gd2po) and sum(weight > 0 for weight in weights.values()) == 1:
        yield (
            "credit.shaping 'gd2po' drops samples whose rewards disagree, but only one reward has "
            "a weight above 0: use gdpo"
        )
    for name, weight in weights.items():
        if not shaping.weighted and weight != 1:
            yield (
                f"rewards.{name}.weight has no effect with credit.shaping {shaping.kind!r}, which "
                f"reads none: leave it out, or use {', '.join(READ_WEIGHTS)}; "
                "credit.time_weights balances the two sides"
            )


def _gains(recipe: Recipe) -> Iterator[str]:
    """With one random step, its gain is the reward less that of one image: the same z in a group,
    where the group shares its noise."""
    rollout, shaping = recipe.rollout, recipe.credit.shaping
    window = rollout.trained
    random = rollout.num_steps - rollout.deterministic_tail
    if isinstance(window, WindowSteps):
        random = window.size
    if not shaping.needs_gains or random > 1:
        return
    if rollout.shared_noise is not False:
        yield (
            f"credit.shaping {shaping.kind!r} gives the credit of 'none' where one step is random "
            "and a group shares its noise, and costs more: use none, or make more steps random"
        )
    elif chosen(shaping, "turning"):
        yield "credit.shaping.turning has no effect with one random step: leave it out"


def _time_weights(recipe: Recipe) -> Iterator[str]:
    rule, shaping = recipe.credit.time_weights, recipe.credit.shaping
    sides = sorted({reward.side for reward in recipe.credited.values()})
    alone = shaping.stands_alone
    if isinstance(rule, Constant):
        if chosen(rule, "prompt") and (alone or len(sides) == 1):
            why = f"credit.shaping {shaping.kind!r}" if alone else f"only {sides[0]} rewards"
            yield f"credit.time_weights.prompt has no effect with {why}: leave it out"
    elif len(sides) == 1:
        yield (
            f"credit.time_weights {rule.kind!r} balances prompt and identity, but all rewards are "
            f"of side {sides[0]}: set credit.time_weights.kind=constant"
        )


def _levels(recipe: Recipe) -> Iterator[str]:
    """Levels of TDW that no trained step has, by the stages of `algorithm.timeweights.tdw`."""
    rule, rollout = recipe.credit.time_weights, recipe.rollout
    if not isinstance(rule, Tdw):
        return
    if recipe.objective.forward:
        times = [25 * step / rollout.num_steps for step in range(rollout.num_steps)]
    elif rule.kind == "tdw-as-released":
        times = [25 * index / rollout.num_steps for index in range(_trained_at_once(rollout))]
    else:
        times = [25 * step / rollout.num_steps for step in _trainable(rollout)]
    used_at: dict[str, Callable[[float], bool]] = {
        "high": lambda u: u < 22,
        "low": lambda u: 6 <= u < 22,
        "final": lambda u: u >= 22,
    }
    for field, used in used_at.items():
        if chosen(rule, field) and not any(map(used, times)):
            yield (
                f"credit.time_weights.{field} has no effect: with {rollout.num_steps} steps, "
                f"{rollout.deterministic_tail} of them deterministic, no trained step is in that "
                "stage; leave it out, or draw more steps"
            )


def _trainable(rollout: Rollout) -> range:
    """Steps that some iteration trains."""
    stochastic = rollout.num_steps - rollout.deterministic_tail
    window = rollout.trained
    if not isinstance(window, WindowSteps):
        return range(stochastic)
    return range(window.first, window.starts(stochastic)[-1] + window.size)


def _trained_at_once(rollout: Rollout) -> int:
    """How many indices the loop of the released code has; see `rollout.steps.loop_orders`."""
    stochastic = rollout.num_steps - rollout.deterministic_tail
    if isinstance(rollout.trained, RandomSteps):
        return max(1, round(rollout.trained.fraction * stochastic))
    assert isinstance(rollout.trained, AllSteps | WindowSteps)
    return stochastic


def _ratio(recipe: Recipe) -> Iterator[str]:
    objective, optimizer = recipe.objective, recipe.optimizer
    updates = optimizer.updates_per_iteration
    if chosen(optimizer, "split") and updates == 1:
        yield (
            "optimizer.split has no effect with optimizer.updates_per_iteration 1, which takes all "
            "samples: leave it out, or make several updates"
        )
    if isinstance(objective, Grpo):
        ratios_are_one = updates == 1 and objective.ratio_tolerance == 0
    else:
        ratios_are_one = updates == 1 and isinstance(objective.old, OnPolicy)
    if chosen(objective, "clip_range") and ratios_are_one:
        yield (
            "objective.clip_range has no effect with optimizer.updates_per_iteration 1: ratios "
            "are exactly 1 in the first update of an iteration; leave it out"
        )
    if chosen(objective, "kl_old") and ratios_are_one:
        yield (
            "objective.kl_old has no effect with optimizer.updates_per_iteration 1 and "
            "objective.old on-policy: the distance is 0 in the first update of an iteration; "
            "leave it out"
        )


def _evaluation(recipe: Recipe) -> Iterator[str]:
    data = recipe.data
    if not isinstance(data, Photos) or data.evaluation is None or data.held_out is None:
        return
    if chosen(data, "held_out"):
        yield (
            "data.held_out has no effect beside data.evaluation, which leaves all subjects to "
            "training: leave one of them out"
        )
