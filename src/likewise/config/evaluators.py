"""The held-out evaluators of a recipe: scorers that training never sees. Does not import torch."""

from __future__ import annotations

from collections.abc import Mapping

from likewise.config.rewards import InGroupDiversity, Reward

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
