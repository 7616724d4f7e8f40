"""All that a run of a recipe needs."""

from __future__ import annotations

import torch

from likewise.build.data import build_evaluation_tasks, build_stream, log_notes, prompts_of
from likewise.build.metrics import build_judges
from likewise.build.policies import build_policy, build_sampler, long_prompts
from likewise.build.rewards import build_rewards
from likewise.config.data import Stickers
from likewise.config.recipe import Recipe
from likewise.trainer.session import Parts


def build_parts(recipe: Recipe, device: torch.device) -> Parts:
    """Load everything that a recipe names.

    Raises:
        ValueError, OSError: a model or function is not there, or does not fit (the message names
            the field).
    """
    stream = build_stream(recipe)  # first: bad data are found faster than models are loaded
    policy, evaluation = build_policy(recipe, device), recipe.run.evaluation
    log_notes(long_prompts(policy, prompts_of(stream)))
    return Parts(
        policy=policy,
        sampler=build_sampler(recipe, policy),
        rewards=build_rewards(recipe, device),
        stream=stream,
        evaluation_tasks=build_evaluation_tasks(recipe) if evaluation.every else [],
        judges=build_judges(device) if isinstance(recipe.data, Stickers) else {},
    )
