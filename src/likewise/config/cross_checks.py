"""Checks of a recipe that need several of its sections. Nothing here imports torch."""

from __future__ import annotations

from collections.abc import Mapping

from likewise.config.objectives import Objective
from likewise.config.rewards import InGroupDiversity, Reward
from likewise.config.rollout import Rollout, WindowSteps

NAMED = ("model", "target", "url")  # what a scorer measures with, by whichever of them it has


def check_evaluators(evaluators: Mapping[str, Reward], rewards: Mapping[str, Reward]) -> None:
    """See that evaluators can score a single image, and that training does not see them.

    Args:
        rewards: Those that credit is made of.

    Raises:
        ValueError: an evaluator needs whole groups, or measures with what a reward measures with.
    """
    trained = {_source(reward): name for name, reward in rewards.items()}
    for name, evaluator in evaluators.items():
        if isinstance(evaluator, InGroupDiversity):
            raise ValueError(
                f"evaluators.{name}: {evaluator.kind} compares the images of a group, and an "
                "evaluation draws one image per task"
            )
        if _source(evaluator) in trained:
            raise ValueError(
                f"evaluators.{name} measures with {_source(evaluator)}, as "
                f"rewards.{trained[_source(evaluator)]} does: an evaluator that training sees "
                "cannot tell reward hacking; name another model"
            )


def _source(scorer: Reward) -> str:
    return next(str(getattr(scorer, name)) for name in NAMED if hasattr(scorer, name))


def check_refresh(every: int, rollout: Rollout, objective: Objective) -> None:
    """Refuse rollouts in which a group's samples differ by more than the noise of known steps.

    Args:
        every: Iterations between two measurements.

    Raises:
        ValueError: samples differ by their first noise or by the noise of all steps, or windows do
            not pass over all of their steps between two measurements.
    """
    trained, field = rollout.trained, "credit.time_weights.refresh"
    if objective.forward or rollout.shared_noise is False:
        why = f"objective {objective.kind}" if objective.forward else "rollout.shared_noise=false"
        raise ValueError(
            f"{field} measures what the noise of a few steps does, but with {why} samples of a "
            "group differ by their first noise too: leave it out"
        )
    if not isinstance(trained, WindowSteps) or trained.order != "forward":
        raise ValueError(
            f"{field} needs to know whose noise a group's samples differ by, step after step: set "
            "rollout.trained to kind window with order forward"
        )
    starts = trained.starts(rollout.num_steps - rollout.deterministic_tail)
    if every < len(starts) * trained.every:
        raise ValueError(
            f"{field} is {every}, but windows pass over their steps once in "
            f"{len(starts) * trained.every} iterations: set at least that"
        )
