"""The only room that knows concrete plug-ins by name: recipes → parts → runs."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from likewise import assets
from likewise.config.recipe import Clip, Dino, Function, Lora, Recipe
from likewise.config.recipe import Reward as RewardSettings
from likewise.data.stickers import bench_subset, training_task
from likewise.policies.flux_kontext import FluxKontextPolicy
from likewise.protocols import Policy, Reward, TaskStream
from likewise.quiet import be_quiet
from likewise.rewards.clip import ClipReward
from likewise.rewards.dino import DinoReward
from likewise.rewards.function import FunctionReward
from likewise.rewards.judges import IdentityJudge, PromptJudge
from likewise.rollout.sampler import Sampler
from likewise.seeding import derive_seed
from likewise.trainer.session import Parts
from likewise.types import Task


def build_parts(recipe: Recipe, device: torch.device) -> Parts:
    """Load everything that a recipe names.

    Raises:
        ValueError, OSError: a model or function is not there, or does not fit (the message names
            the field).
    """
    policy, evaluation = build_policy(recipe, device), recipe.run.evaluation
    return Parts(
        policy=policy,
        sampler=build_sampler(recipe, policy),
        rewards=build_rewards(recipe, device),
        stream=build_stream(recipe),
        evaluation_tasks=build_benchmark(evaluation.tasks) if evaluation.every else [],
        judges=build_judges(device),
    )


def build_policy(recipe: Recipe, device: torch.device, trainable: bool = True) -> Policy:
    """The recipe's generator, with a fresh adapter if `trainable`."""
    be_quiet()
    settings = recipe.policy.model_dump(exclude={"kind", "model", "dtype"})
    dtype = getattr(torch, recipe.policy.dtype)
    path = model_path(recipe.policy.model)
    policy = FluxKontextPolicy.from_pretrained(path, dtype=dtype, device=device, **settings)
    if trainable and isinstance(recipe.adapter, Lora):
        adapter = recipe.adapter
        seed = derive_seed("adapter", recipe.seed)
        policy.add_lora(adapter.rank, adapter.alpha, adapter.targets, seed)
    elif trainable:
        policy.train_all(keep_reference=recipe.objective.kl > 0)
    return policy


def build_sampler(recipe: Recipe, policy: Policy) -> Sampler:
    """The recipe's schedule and transition, for this policy."""
    settings = recipe.rollout
    sigmas = policy.sigmas(settings.num_steps, settings.shift)
    return Sampler(sigmas, settings.transition, settings.noise_level)


def build_rewards(recipe: Recipe, device: torch.device) -> dict[str, Reward]:
    """The recipe's rewards by name, in its order."""
    be_quiet()
    return {name: _reward(name, settings, device) for name, settings in recipe.rewards.items()}


def _reward(name: str, settings: RewardSettings, device: torch.device) -> Reward:
    if isinstance(settings, Clip):
        return ClipReward(model_path(settings.model), device)
    if isinstance(settings, Dino):
        return DinoReward(model_path(settings.model), settings.segment, device)
    assert isinstance(settings, Function)
    try:
        return FunctionReward.load(settings.target)
    except (ImportError, AttributeError, TypeError) as error:
        raise ValueError(f"rewards.{name}.target: {error}") from error


def build_stream(recipe: Recipe) -> TaskStream:
    """Training tasks."""
    seed = recipe.data.seed
    return lambda index: training_task(index, seed)


def build_benchmark(tasks: int) -> Sequence[Task]:
    """So many tasks of sticker bench: about subjects that training never shows."""
    return bench_subset(tasks)


def build_judges(device: torch.device) -> Mapping[str, Reward]:
    """The sticker world's judges, never rewards: identity (cosine), and prompt success (0 or 1)."""
    be_quiet()
    return {
        "identity": IdentityJudge(assets.path("judge-identity"), device),
        "prompt": PromptJudge(assets.path("judge-prompt"), device, strict=True),
    }


def model_path(name: str) -> str:
    """Directory of a shipped model, or the name as it is: a directory, or on the Hub."""
    if not os.path.isdir(name) and name in assets.names():
        return str(assets.path(name))
    return str(Path(name)) if os.path.isdir(name) else name
