"""The only room that knows concrete plug-ins by name: recipes → parts → runs."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter

from likewise import assets
from likewise.config.data import DreamBench, Photos, Stickers
from likewise.config.policies import Custom, PolicySection
from likewise.config.problems import nearest
from likewise.config.recipe import Lora, Recipe
from likewise.config.rewards import Clip, Dino, Function, Remote, VlmJudge
from likewise.config.rewards import Reward as RewardSettings
from likewise.data.checking import Report as Report
from likewise.data.checking import check_source as check_source
from likewise.data.dreambench import dreambench_tasks
from likewise.data.dreambench_source import DreamBenchSource
from likewise.data.entries import Source
from likewise.data.epochs import Epochs
from likewise.data.fitting import fit_reference as fit_reference
from likewise.data.folder import FolderSource
from likewise.data.guessing import guess_kind as guess_kind
from likewise.data.index import index_rows
from likewise.data.jsonl import JsonlSource
from likewise.data.opener import Opener
from likewise.data.stickers import bench_subset, bench_tasks, training_task
from likewise.data.streaming import PhotoStream, first_tasks, refuse_or_log
from likewise.data.subjects200k import Subjects200kSource
from likewise.data.subsets import spread
from likewise.data.syncd import SynCdSource
from likewise.evaluation.measures import Measures
from likewise.imports import load_target
from likewise.policies.common.pipeline_policy import PipelinePolicy
from likewise.policies.flux2_klein import Flux2KleinPolicy
from likewise.policies.flux_kontext import FluxKontextPolicy
from likewise.policies.flux_uno import FluxUnoPolicy
from likewise.policies.formats.exporting import export_adapter as export_adapter
from likewise.policies.formats.files import Facts as Facts
from likewise.policies.formats.lora_files import FORMATS as FORMATS
from likewise.policies.qwen_image_edit import QwenImageEditPolicy
from likewise.policies.sd_ip_adapter import SdIpAdapterPolicy
from likewise.protocols import Encoder, Policy, Reward, TaskStream
from likewise.quiet import be_quiet
from likewise.rewards.clip import ClipI, ClipReward, ClipT
from likewise.rewards.dino import DinoReward
from likewise.rewards.function import FunctionReward
from likewise.rewards.judges import IdentityJudge, PromptJudge
from likewise.rewards.likeness import Transform
from likewise.rewards.mobilenet import MobileNetJudge
from likewise.rewards.remote import RemoteReward
from likewise.rewards.vlm_judge import VlmJudgeReward
from likewise.rollout.sampler import Sampler
from likewise.seeding import derive_seed
from likewise.trainer.launch import auto_device
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
        evaluation_tasks=build_evaluation_tasks(recipe) if evaluation.every else [],
        judges=build_judges(device) if isinstance(recipe.data, Stickers) else {},
    )


def build_policy(recipe: Recipe, device: torch.device, trainable: bool = True) -> Policy:
    """The recipe's generator, with a fresh adapter if `trainable`."""
    be_quiet()
    policy = _policy(recipe.policy, device)
    if trainable:
        add_adapter(recipe, policy)
    return policy


def add_adapter(recipe: Recipe, policy: PipelinePolicy) -> None:
    """Make trainable what the recipe says: a fresh LoRA, or all."""
    adapter = recipe.adapter
    if isinstance(adapter, Lora):
        seed = derive_seed("adapter", recipe.seed)
        policy.add_lora(adapter.rank, adapter.alpha, adapter.targets, seed)
    else:
        policy.train_all(keep_reference=recipe.objective.kl > 0)


def _policy(settings: PolicySection, device: torch.device) -> PipelinePolicy:
    apart = {"kind", "model", "dtype", "target", "options"}
    options = settings.model_dump(exclude=apart)
    if isinstance(settings, Custom):
        options |= settings.options
    return policy_class(settings).from_pretrained(
        model_path(settings.model), dtype=getattr(torch, settings.dtype), device=device, **options
    )


def policy_class(settings: PolicySection) -> type[PipelinePolicy]:
    """The class that a recipe's policy section names.

    Raises:
        ValueError: it is a custom one, and there is no such class.
    """
    if not isinstance(settings, Custom):
        return POLICIES[settings.kind]  # type: ignore[attr-defined]
    try:
        found = load_target(settings.target)
    except (ImportError, AttributeError, TypeError) as error:
        raise ValueError(f"policy.target: {error}") from error
    if not (isinstance(found, type) and issubclass(found, PipelinePolicy)):
        raise ValueError(f"policy.target: {settings.target} is no subclass of PipelinePolicy")
    return found


def build_sampler(recipe: Recipe, policy: Policy) -> Sampler:
    """The recipe's schedule and transition, for this policy."""
    settings = recipe.rollout
    sigmas = policy.sigmas(settings.num_steps, settings.shift)
    return Sampler(sigmas, settings.transition, settings.noise_level, policy.parameterization)


def build_rewards(recipe: Recipe, device: torch.device) -> dict[str, Reward]:
    """The recipe's rewards by name, in its order."""
    be_quiet()
    return {name: _reward(name, settings, device) for name, settings in recipe.rewards.items()}


def build_reward(kind: str, settings: Mapping[str, Any], device: str | None = None) -> Reward:
    """One reward without a recipe, from what would be its section there.

    Args:
        settings: `side` need not be among them.

    Raises:
        ValueError, OSError: there is no such kind, setting or model, or they do not fit.
    """
    be_quiet()
    section = TypeAdapter(RewardSettings).validate_python(
        {"side": "prompt", **settings, "kind": kind}
    )
    return _reward(kind, section, torch.device(device or auto_device()))


def _reward(name: str, settings: RewardSettings, device: torch.device) -> Reward:
    if isinstance(settings, Clip):
        return ClipReward(model_path(settings.model), device)
    if isinstance(settings, Dino):
        return DinoReward(model_path(settings.model), settings.segment, device)
    try:
        if isinstance(settings, VlmJudge):
            return VlmJudgeReward.load(settings)
        if isinstance(settings, Remote):
            return RemoteReward(settings)
    except ValueError as error:
        raise ValueError(f"rewards.{name}.{error}") from error
    assert isinstance(settings, Function)
    try:
        return FunctionReward.load(settings.target)
    except (ImportError, AttributeError, TypeError) as error:
        raise ValueError(f"rewards.{name}.target: {error}") from error


def build_stream(recipe: Recipe) -> TaskStream:
    """Training tasks.

    Raises:
        ValueError, OSError: the data are not there, or bad and not to be skipped.
    """
    data = recipe.data
    if isinstance(data, Stickers):
        return lambda index: training_task(index, data.seed)
    if isinstance(data, DreamBench):
        fitted = [fitted_task(task, recipe.policy) for task in dreambench_tasks(Path(data.path))]
        return Epochs(fitted, data.seed)
    source = open_source(data)
    index = index_rows(source, None if data.evaluation else data.held_out)
    if index.problems.counts:
        refuse_or_log(index.problems, data)
    if not len(index.training):
        raise ValueError(f"{data.path} has no good row to train on")
    opener = Opener(source, recipe.policy, data.workers)
    rows = Epochs(index.training.tolist(), data.seed)
    return PhotoStream(opener, rows, data, ahead=recipe.rollout.tasks)


def build_evaluation_tasks(recipe: Recipe) -> Sequence[Task]:
    """The fixed set that a run looks at every so often: of subjects which training never shows, or
    of DreamBench's, which it trains on. May be empty where nothing is held out.

    Raises:
        ValueError, OSError: as `build_stream`.
    """
    data, tasks = recipe.data, recipe.run.evaluation.tasks
    if isinstance(data, Stickers):
        return bench_subset(tasks)
    if isinstance(data, DreamBench):
        chosen = spread(dreambench_tasks(Path(data.path)), tasks)
        return [fitted_task(one, recipe.policy) for one in chosen]
    other = data.evaluation and data.model_copy(update={"path": data.evaluation})
    source = open_source(other or data)
    index = index_rows(source, None if other else data.held_out)
    if other and index.problems.counts:
        refuse_or_log(index.problems, other)
    rows = Epochs((index.training if other else index.held_out).tolist(), seed=0)
    opener = Opener(source, recipe.policy, workers=0)
    return first_tasks(opener, rows, tasks, other or data)


def open_source(data: Photos | DreamBench) -> Source:
    """The rows of a data set of people's own.

    Raises:
        ValueError, OSError: there is none at its path, or not one of its kind.
    """
    return SOURCES[data.kind](data)


def fitted_task(task: Task, policy: PolicySection) -> Task:
    """With its reference in the policy's shape and size."""
    return replace(task, reference=fit_reference(task.reference, policy))


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


# Data sets of people's own by `kind`.
SOURCES: dict[str, Callable[[Any], Source]] = {
    "folder": FolderSource,
    "jsonl": JsonlSource,
    "syncd": SynCdSource,
    "subjects200k": Subjects200kSource,
    "dreambench": DreamBenchSource,
}

# Policies by `kind`. A new one is a file in policies/ and a line here.
POLICIES: dict[str, type[PipelinePolicy]] = {
    "flux-kontext": FluxKontextPolicy,
    "sd-ip-adapter": SdIpAdapterPolicy,
    "flux-uno": FluxUnoPolicy,
    "flux2-klein": Flux2KleinPolicy,
    "qwen-image-edit": QwenImageEditPolicy,
}

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
