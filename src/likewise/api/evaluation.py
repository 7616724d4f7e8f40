"""How good images are: drawn by a run or a model, by another system, or taken by a camera."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from likewise.api.jobs import Job, Progress, carry_out
from likewise.api.targets import Target, find_target
from likewise.builders.benchmarks import load_benchmark, same_tasks
from likewise.builders.datasets import build_evaluation_tasks
from likewise.builders.metric_rewards import default_encoders
from likewise.config.evaluation_settings import STICKERS, EvaluationSettings
from likewise.config.problems import nearest
from likewise.config.recipe import Recipe
from likewise.config.rewards import InGroupDiversity
from likewise.config.rewards import Reward as RewardSettings
from likewise.devices import find_device
from likewise.evaluation.batches import silent
from likewise.evaluation.benchmark_protocols import find_protocol
from likewise.evaluation.items import read_items
from likewise.evaluation.settings import Settings
from likewise.evaluation.summary import Summary
from likewise.types import Task

DEFAULT_TASKS = 150  # of sticker bench, where images are drawn


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation found, and the folder with all of it."""

    folder: Path
    summary: Summary


def evaluate(
    target: str | Path,
    settings: EvaluationSettings | None = None,
    *,
    recipe: Recipe | str | Path | None = None,
    name: str | None = None,
    only: str | None = None,
    best: bool = False,
    out: str | Path | None = None,
    device: str | None = None,
    processes: int = 1,
    trust_code: bool = False,
    progress: Progress = silent,
) -> Evaluation:
    """Draw what is missing, score what has no scores yet, and sum up.

    A call that was killed goes on where it stopped: each process loses one batch at most, and
    repeats none. docs/evaluation.md says what is in the folder.

    Args:
        target: A run (compared with its model before training, from the same noise), a model
            (shipped, a pipeline's folder, or on the Hub), a folder of images with a
            ``manifest.jsonl``, or ``real``: the benchmark's own photos.
        settings: Benchmark, protocol and all else that decides the numbers.
        recipe: For a model: how it draws, default ``stickers``. For images: whose rewards score
            them too, default none.
        name: Of the system in a folder of images. Default: the folder's.
        only: The one system of a run to measure: ``before`` or ``after``.
        best: A run's best checkpoint instead of its newest. It was chosen on the tasks of
            training's evaluations; those of them that the benchmark has are left out here.
        out: Default: below ``evaluation`` in a run, ``runs/evaluation`` for all else.
        device: Default: cuda where there is one, else cpu.
        processes: How many share the batches, on several GPUs one on each.
        trust_code: Import what a run's recipe names as ``module:name``. What you pass as `recipe`
            is trusted.
        progress: Called with what is being done ("draw after"), how many batches of it are, and of
            how many; by one process only.

    Raises:
        ValueError: target, settings and options do not fit each other, or a scorer fails (the
            message says which).
        OSError: a file or a model is not there.
    """
    asked = settings or EvaluationSettings()
    find_protocol(asked.protocol)  # before anything is looked up elsewhere
    found = find_target(target, recipe, name, best, trust_code)
    if only is not None and only not in found.systems:
        raise ValueError(f"{target} has no system {only!r}; {nearest(only, found.systems)}")
    if found.draws and asked.steps is not None:
        found = found.with_steps(asked.steps)
    systems = found.systems if only is None else (only,)
    job, tasks = _job(found, systems, _with_defaults(asked, found), best, out, device, processes)
    return Evaluation(job.out, carry_out(job, tasks, progress))


def _job(
    target: Target,
    systems: tuple[str, ...],
    asked: EvaluationSettings,
    best: bool,
    out: str | Path | None,
    device: str | None,
    processes: int,
) -> tuple[Job, Sequence[Task]]:
    """What is to be done, and the tasks of it."""
    without = _chosen_on(target, asked.benchmark) if best else frozenset[str]()
    tasks = load_benchmark(asked.benchmark, asked.tasks, without)
    facts = _facts(asked, target, tasks, len(without))
    job = Job(
        out=Path(out or f"{target.out}{facts.benchmark}-{facts.protocol}{'-best' * best}"),
        target=target,
        systems=systems,
        asked=asked,
        without=without,
        settings=facts,
        device=str(find_device(device)),
        processes=processes,
    )
    return job, tasks


def _with_defaults(asked: EvaluationSettings, target: Target) -> EvaluationSettings:
    """The settings with a number of tasks and metrics, where none are given."""
    defaults: dict[str, Any] = {}
    if target.draws and asked.benchmark in STICKERS and asked.tasks is None:
        defaults["tasks"] = DEFAULT_TASKS
    if asked.metrics is None:
        defaults["metrics"] = default_encoders(asked.benchmark)
    return asked.model_copy(update=defaults)


def _facts(
    asked: EvaluationSettings, target: Target, tasks: Sequence[Task], left_out: int
) -> Settings:
    """What decides the numbers, defaults filled in: for settings.json."""
    rule = find_protocol(asked.protocol)
    count, each = len(tasks), asked.images_per_prompt or rule.images_per_prompt
    if target.images is not None:
        shown = Counter(item.task.id for item in read_items(target.images, tasks))
        count, each = len(shown), max(shown.values())
    seed = rule.seed if asked.seed is None else asked.seed
    return Settings(
        benchmark=Path(asked.benchmark).resolve().name,
        protocol=rule.name,
        tasks=count,
        images_per_prompt=each,
        seed=seed if target.draws else None,
        num_steps=target.num_steps,
        encoders={**_reward_models(target), **(asked.metrics or {})},
        source=target.source,
        left_out=left_out or None,
    )


def _chosen_on(target: Target, benchmark: str) -> frozenset[str]:
    """Ids of the benchmark's tasks that training's evaluations drew, and chose the best one by.

    Raises:
        ValueError: no other task is left.
    """
    assert target.recipe is not None
    tasks = load_benchmark(benchmark)
    try:
        drawn = build_evaluation_tasks(target.recipe)
    except (OSError, ValueError) as error:
        warnings.warn(f"which tasks chose the checkpoint cannot be told: {error}", stacklevel=4)
        return frozenset()
    found = same_tasks(tasks, drawn, target.recipe.policy)
    if len(found) == len(tasks):
        raise ValueError(
            "every task of the benchmark chose this checkpoint, so none can measure it: evaluate "
            "the newest checkpoint, or train with other evaluation tasks"
        )
    return frozenset(found)


def _reward_models(target: Target) -> dict[str, str]:
    """What measures each of the recipe's rewards and evaluators, for settings.json."""
    recipe = target.recipe
    if recipe is None:
        return {}
    rewards = {
        f"reward/{name}": _in_words(one)
        for name, one in recipe.rewards.items()
        if not isinstance(one, InGroupDiversity)  # it needs groups, which evaluations do not draw
    }
    held_out = {
        f"evaluator/{name}": _in_words(one) for name, one in (recipe.evaluators or {}).items()
    }
    return {**rewards, **held_out}


def _in_words(settings: RewardSettings) -> str:
    """Model, function or address, and every setting that is not the default."""
    named = next(name for name in ("model", "target", "url") if hasattr(settings, name))
    aside = {"side", "weight", "kind", named}
    rest = settings.model_dump(exclude=aside, exclude_defaults=True)
    return " ".join([getattr(settings, named), *(f"{key}={value}" for key, value in rest.items())])
