"""The only room that knows concrete plug-ins by name: recipes → parts → runs."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch

from likewise import assets
from likewise.config.problems import nearest
from likewise.config.recipe import Clip, Dino, Function, Lora, Recipe
from likewise.config.recipe import Reward as RewardSettings
from likewise.data.dreambench import dreambench_tasks
from likewise.data.stickers import bench_subset, bench_tasks, training_task
from likewise.data.subsets import spread
from likewise.evaluation.measures import Measures
from likewise.policies.flux_kontext import FluxKontextPolicy
from likewise.protocols import Encoder, Policy, Reward, TaskStream
from likewise.quiet import be_quiet
from likewise.rewards.clip import ClipI, ClipReward, ClipT
from likewise.rewards.dino import DinoReward
from likewise.rewards.function import FunctionReward
from likewise.rewards.judges import IdentityJudge, PromptJudge
from likewise.rewards.likeness import Transform
from likewise.rewards.mobilenet import MobileNetJudge
from likewise.rollout.sampler import Sampler
from likewise.seeding import derive_seed
from likewise.trainer.session import Parts
from likewise.types import Task

STICKER_BENCH = "sticker-bench"
DREAMBENCH = "dreambench"  # nothing of that name is shipped: a folder must be given


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


def load_benchmark(name: str | Path, tasks: int | None = None) -> list[Task]:
    """A benchmark's tasks, or so many of them, evenly over subjects and prompts.

    Args:
        name: ``sticker-bench``, or a folder in google/dreambooth's layout.

    Raises:
        ValueError, OSError: there is no such benchmark, it is damaged, or it has no tasks.
    """
    if str(name) == STICKER_BENCH:
        found = bench_tasks()
    elif Path(name).is_dir() or str(name) == DREAMBENCH or os.sep in str(name):
        found = dreambench_tasks(Path(name))
    else:
        meant = nearest(name, [STICKER_BENCH, DREAMBENCH])
        raise ValueError(f"no benchmark and no folder {str(name)!r}; {meant}")
    found = found if tasks is None else spread(found, tasks)
    if not found:
        raise ValueError(f"the benchmark {name} has no tasks: at least one is needed")
    return found


def build_judges(device: torch.device) -> Mapping[str, Reward]:
    """The sticker world's judges, never rewards: identity (cosine), and prompt success (0 or 1)."""
    be_quiet()
    return {
        "identity": IdentityJudge(assets.path("judge-identity"), device),
        "prompt": PromptJudge(assets.path("judge-prompt"), device, strict=True),
    }


def default_encoders(benchmark: str | Path) -> dict[str, str]:
    """Metric → encoder, where nobody names any: those of published tables, for photos.

    Stickers have rewards and judges of their own for the prompt, and to the nano CLIP's picture
    embeddings subjects look much alike.
    """
    if str(benchmark) == STICKER_BENCH:
        return {"dinov2": "nano-dinov2"}
    clip = "openai/clip-vit-base-patch32"
    dino = {"dino": "facebook/dino-vits16", "dinov2": "facebook/dinov2-base"}
    return {**dino, "clip-i": clip, "clip-t": clip}


def build_metrics(encoders: Mapping[str, str], device: torch.device) -> Measures:
    """Metrics of an evaluation, in the order given.

    Args:
        encoders: Metric (`LIKENESS`, `PROMPT`) → shipped model, directory or Hub name.

    Raises:
        ValueError: a metric is unknown, or its encoder cannot be loaded (the message names both).
    """
    be_quiet()
    likeness, prompt = {}, {}
    for name, encoder in encoders.items():
        if name not in {**LIKENESS, **PROMPT}:
            raise ValueError(f"no metric {name!r}; {nearest(name, [*LIKENESS, *PROMPT])}")
        try:
            if name in LIKENESS:
                likeness[name] = LIKENESS[name](encoder, device)
            else:
                prompt[name] = PROMPT[name](encoder, device)
        except (OSError, ValueError) as error:
            raise ValueError(f"metric {name}: cannot load {encoder!r}: {error}") from error
    return Measures(likeness, prompt)


def _dino(encoder: str, device: torch.device) -> DinoReward:
    """With the benchmark's transform, but for shipped models, which learnt from whole stickers."""
    transform: Transform = "own" if encoder in assets.names() else "dreambench"
    return DinoReward(model_path(encoder), device=device, transform=transform)


# Metrics by name, from encoder and device: likeness to photos, and to the prompt.
LIKENESS: dict[str, Callable[[str, torch.device], Encoder]] = {
    "dino": _dino,
    "dinov2": _dino,
    "clip-i": lambda encoder, device: ClipI(model_path(encoder), device),
    "mobilenet": MobileNetJudge,
}
PROMPT: dict[str, Callable[[str, torch.device], Reward]] = {
    "clip-t": lambda encoder, device: ClipT(model_path(encoder), device),
}


def model_path(name: str) -> str:
    """Directory of a shipped model, or the name as it is: a directory, or on the Hub."""
    if not os.path.isdir(name) and name in assets.names():
        return str(assets.path(name))
    return str(Path(name)) if os.path.isdir(name) else name
