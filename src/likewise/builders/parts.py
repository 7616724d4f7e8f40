"""All that a run of a recipe needs."""

from __future__ import annotations

import torch

from likewise.builders.datasets import Datasets, build_datasets, log_notes, prompts_of
from likewise.builders.policies import build_policy, build_sampler, long_prompts
from likewise.builders.rewards import build_evaluators, build_rewards, check_reachable
from likewise.config.data import Stickers
from likewise.config.recipe import Recipe
from likewise.rollout.layout import own_tasks
from likewise.trainer.plugins import Parts
from likewise.trainer.processes import Processes


def build_parts(recipe: Recipe, device: torch.device, processes: Processes | None = None) -> Parts:
    """Load everything that a recipe names.

    Args:
        processes: Of the run, of which this is one: then a collective call.

    Raises:
        ValueError, OSError: a model or function is not there, or does not fit (the message names
            the field).
    """
    evaluates, stickers = recipe.run.evaluation.every > 0, isinstance(recipe.data, Stickers)
    # First: bad data are found faster than models are loaded.
    datasets = _datasets(recipe, evaluates, processes)
    rewards = build_rewards(recipe, device)
    check_reachable("rewards", rewards)
    evaluators = build_evaluators(recipe, device, stickers) if evaluates else {}
    check_reachable("evaluators", evaluators)
    policy = build_policy(recipe, device, spread=True)
    log_notes(long_prompts(policy, prompts_of(datasets.stream)))
    return Parts(
        policy=policy,
        sampler=build_sampler(recipe, policy),
        rewards=rewards,
        stream=datasets.stream,
        evaluation_tasks=datasets.evaluation_tasks,
        evaluators=evaluators,
        fingerprints=datasets.fingerprints,
    )


def _datasets(recipe: Recipe, evaluates: bool, processes: Processes | None) -> Datasets:
    """Indexed by one process for all, and opened by each for what it draws."""
    if processes is None:
        return build_datasets(recipe, evaluates)
    share = recipe.rollout, recipe.optimizer, processes.count, processes.index
    return build_datasets(recipe, evaluates, processes.once, own_tasks(*share))
