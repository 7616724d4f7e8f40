"""How good pictures are: drawn by a run or a model, by another system, or taken by a camera."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from likewise.api.jobs import Job, Progress, carry_out
from likewise.api.targets import Target, find_target
from likewise.build.benchmarks import STICKER_BENCH, load_benchmark, same_tasks
from likewise.build.data import build_evaluation_tasks
from likewise.build.metrics import default_encoders
from likewise.config.problems import nearest
from likewise.config.recipe import Recipe
from likewise.config.rewards import InGroupDiversity
from likewise.config.rewards import Reward as RewardSettings
from likewise.devices import find_device
from likewise.evaluation.batches import silent
from likewise.evaluation.items import read_items
from likewise.evaluation.protocols import find_protocol
from likewise.evaluation.settings import Settings
from likewise.evaluation.summary import Summary

USUAL_TASKS = 150  # of sticker bench, where pictures are drawn


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation found, and the folder with all of it."""

    folder: Path
    summary: Summary


def evaluate(
    target: str | Path,
    benchmark: str | Path = STICKER_BENCH,
    protocol: str = "single-ref",
    *,
    tasks: int | None = None,
    images_per_prompt: int | None = None,
    seed: int | None = None,
    steps: int | None = None,
    only: str | None = None,
    metrics: Mapping[str, str] | None = None,
    recipe: Recipe | str | Path | None = None,
    name: str | None = None,
    out: str | Path | None = None,
    best: bool = False,
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
            (shipped, a pipeline's folder, or on the Hub), a folder of pictures with a
            ``manifest.jsonl``, or ``real``: the benchmark's own photos.
        benchmark: ``sticker-bench``, or a folder in google/dreambooth's layout.
        protocol: ``single-ref``, ``uno`` or ``dreambooth``.
        tasks: How many, evenly over subjects and prompts. Default: all; 150 where stickers are
            drawn; where pictures are given, those that they are about.
        images_per_prompt: Default: the protocol's.
        seed: Of the initial noise. Default: the protocol's.
        steps: Of the schedule. Default: the recipe's own, as in training.
        only: The one system of a run to measure: ``before`` or ``after``.
        metrics: Metric → encoder that measures it: shipped, a folder, or on the Hub. Default: see
            docs/evaluation.md.
        recipe: For a model: how it draws, default ``stickers``. For pictures: whose rewards score
            them too, default none.
        name: Of the system in a folder of pictures. Default: the folder's.
        out: Default: below ``evaluation`` in a run, ``runs/evaluation`` for all else.
        best: A run's best checkpoint instead of its newest. It was chosen on the tasks of
            training's evaluations; those of them that the benchmark has are left out here.
        device: Default: cuda where there is one, else cpu.
        processes: How many share the batches, on several GPUs one on each.
        trust_code: Import what a run's recipe names as ``module:name``. What you pass as `recipe`
            is trusted.
        progress: Told what is being done ("draw after"), how many batches of it are, and of how
            many; by one process only.

    Raises:
        ValueError: something does not fit, or a scorer fails (the message says which).
        OSError: a file or a model is not there.
    """
    rule = find_protocol(protocol)
    found = find_target(target, recipe, name, best, trust_code)
    if only is not None and only not in found.systems:
        raise ValueError(f"{target} has no system {only!r}; {nearest(only, found.systems)}")
    if found.draws and steps is not None:
        found = found.with_steps(steps)
    stickers = str(benchmark) == STICKER_BENCH
    if found.draws and stickers and tasks is None:
        tasks = USUAL_TASKS
    if metrics is None:
        metrics = default_encoders(benchmark)
    without = _chosen_on(found, benchmark) if best else frozenset[str]()
    chosen = load_benchmark(benchmark, tasks, without)
    count, each = len(chosen), images_per_prompt or rule.images_per_prompt
    if found.pictures is not None:
        shown = Counter(item.task.id for item in read_items(found.pictures, chosen))
        count, each = len(shown), max(shown.values())
    settings = Settings(
        benchmark=Path(benchmark).resolve().name,
        protocol=rule.name,
        tasks=count,
        images_per_prompt=each,
        seed=(rule.seed if seed is None else seed) if found.draws else None,
        num_steps=found.num_steps,
        encoders={**_reward_models(found), **metrics},
        source=found.source,
        left_out=len(without) or None,
    )
    place = f"{found.out}{settings.benchmark}-{settings.protocol}{'-best' * best}"
    job = Job(
        out=Path(out or place),
        target=found,
        systems=found.systems if only is None else (only,),
        benchmark=str(benchmark),
        limit=tasks,
        without=without,
        settings=settings,
        metrics=metrics,
        device=str(find_device(device)),
        processes=processes,
    )
    return Evaluation(job.out, carry_out(job, chosen, progress))


def _chosen_on(target: Target, benchmark: str | Path) -> frozenset[str]:
    """Ids of the benchmark's tasks that training's evaluations drew, and chose the best one by.

    Raises:
        ValueError: they are all there are.
    """
    assert target.recipe is not None
    tasks = load_benchmark(benchmark)
    try:
        drawn = build_evaluation_tasks(target.recipe)
    except (OSError, ValueError) as error:
        warnings.warn(f"which tasks chose the checkpoint cannot be told: {error}", stacklevel=3)
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
    held_out = {f"judge/{name}": _in_words(one) for name, one in (recipe.evaluators or {}).items()}
    return {**rewards, **held_out}


def _in_words(settings: RewardSettings) -> str:
    """Model, function or address, and every setting that is not the usual one."""
    named = next(name for name in ("model", "target", "url") if hasattr(settings, name))
    aside = {"side", "weight", "kind", named}
    rest = settings.model_dump(exclude=aside, exclude_defaults=True)
    return " ".join([getattr(settings, named), *(f"{key}={value}" for key, value in rest.items())])
