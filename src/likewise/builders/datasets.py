"""Tasks to train on, and to evaluate on meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from PIL import Image

from likewise.config.data import DreamBench, Photos, Stickers
from likewise.config.policy_sections import PolicySection
from likewise.config.recipe import Recipe
from likewise.data.checking import Report as Report
from likewise.data.checking import check_source as check_source
from likewise.data.epochs import Epochs
from likewise.data.sources.dreambench import DreamBenchSource, dreambench_tasks
from likewise.data.sources.entries import Entry, Source
from likewise.data.sources.fitting import fit_held_out as fit_held_out
from likewise.data.sources.fitting import fit_reference as fit_reference
from likewise.data.sources.folder import FolderSource
from likewise.data.sources.guessing import guess_kind as guess_kind
from likewise.data.sources.index import Index, index_rows
from likewise.data.sources.jsonl import JsonlSource
from likewise.data.sources.masking import check_masks
from likewise.data.sources.opening import Opener
from likewise.data.sources.subjects200k import Subjects200kSource
from likewise.data.sources.syncd import SynCdSource
from likewise.data.stickers.world import bench_subset, training_task
from likewise.data.streaming import PhotoStream, first_tasks, refuse_or_log
from likewise.data.streaming import log_notes as log_notes
from likewise.data.subsets import spread
from likewise.protocols import TaskStream
from likewise.types import Task

PROMPTS_LOOKED_AT = 10_000  # to count those that are too long, within a second

# Custom datasets by `kind`.
SOURCES: dict[str, Callable[[Any], Source]] = {
    "folder": FolderSource,
    "jsonl": JsonlSource,
    "syncd": SynCdSource,
    "subjects200k": Subjects200kSource,
    "dreambench": DreamBenchSource,
}


Indexed = tuple[Source, Index]
Once = Callable[[Callable[[], Indexed]], Indexed]


def _here(make: Callable[[], Indexed]) -> Indexed:
    return make()


@dataclass(frozen=True)
class Datasets:
    """What a run trains on and evaluates on meanwhile.

    Attributes:
        stream: Training tasks.
        evaluation_tasks: As `build_evaluation_tasks`.
        fingerprints: Dotted name in the recipe → of the dataset there; the sticker world is part of
            the program and has none.
    """

    stream: TaskStream
    evaluation_tasks: Sequence[Task]
    fingerprints: Mapping[str, str]


def build_datasets(
    recipe: Recipe, evaluates: bool, once: Once = _here, asked: Sequence[int] | None = None
) -> Datasets:
    """Both, with each dataset indexed once.

    Args:
        evaluates: Whether evaluation tasks are wanted.
        once: Gives what a function makes; with several processes, one may do it for all.
        asked: Which tasks of every iteration will be asked for; None: all.

    Raises:
        ValueError, OSError: as `build_stream`.
    """
    data = recipe.data
    if isinstance(data, Stickers):
        return Datasets(
            lambda index: training_task(index, data.seed, recolouring=data.recolouring),
            bench_subset(recipe.run.evaluation.tasks) if evaluates else [],
            {},
        )
    if isinstance(data, DreamBench):
        tasks = dreambench_tasks(Path(data.path))
        check_masks(recipe, unmasked=len(tasks), rows=len(tasks))
        stream = Epochs(fitted_tasks(tasks, recipe.policy), data.seed)
        evaluation = build_evaluation_tasks(recipe) if evaluates else []
        index = index_rows(open_source(data), None)
        return Datasets(stream, evaluation, {"data.path": index.fingerprint})
    own = once(lambda: _indexed(data))
    asked = range(recipe.rollout.tasks) if asked is None else asked
    photos = _stream(recipe, data, *own, frozenset(asked))
    other = once(lambda: _indexed_evaluation(data)) if data.evaluation and evaluates else None
    evaluation = _evaluation_tasks(recipe, data, own, other) if evaluates else []
    fingerprints = {"data.path": own[1].fingerprint}
    if other is not None:
        fingerprints["data.evaluation"] = other[1].fingerprint
    return Datasets(photos, evaluation, fingerprints)


def build_stream(recipe: Recipe) -> TaskStream:
    """Training tasks.

    Raises:
        ValueError, OSError: the data are not there, or bad and not to be skipped.
    """
    return build_datasets(recipe, evaluates=False).stream


def prompts_of(stream: TaskStream) -> list[str]:
    """Prompts of a dataset's first rows, good and bad, each once; none of the sticker world."""
    if isinstance(stream, PhotoStream):
        source = stream.opener.source
        entries = source.entries(0, min(len(source), PROMPTS_LOOKED_AT), content=False)
        return list({entry.prompt: None for entry in entries if isinstance(entry, Entry)})
    if isinstance(stream, Epochs):
        return list({task.prompt: None for task in stream.tasks})
    return []


def build_evaluation_tasks(recipe: Recipe) -> Sequence[Task]:
    """The fixed set that a run evaluates on: of subjects which training never shows, or
    of DreamBench's, which it trains on. May be empty where nothing is held out.

    Raises:
        ValueError, OSError: as `build_stream`.
    """
    data, tasks = recipe.data, recipe.run.evaluation.tasks
    if isinstance(data, Stickers):
        return bench_subset(tasks)
    if isinstance(data, DreamBench):
        chosen = spread(dreambench_tasks(Path(data.path)), tasks)
        return fitted_tasks(chosen, recipe.policy)
    if data.evaluation:
        other = _indexed_evaluation(data)
        return _evaluation_tasks(recipe, data, other, other)
    return _evaluation_tasks(recipe, data, _indexed(data), None)


def _indexed(data: Photos) -> Indexed:
    source = open_source(data)
    return source, index_rows(source, None if data.evaluation else data.held_out)


def _indexed_evaluation(data: Photos) -> Indexed:
    source = open_source(_evaluation_section(data))
    return source, index_rows(source, None)


def _evaluation_section(data: Photos) -> Photos:
    return data.model_copy(update={"path": data.evaluation})


def _stream(
    recipe: Recipe, data: Photos, source: Source, index: Index, asked: frozenset[int]
) -> PhotoStream:
    if index.problems.counts:
        refuse_or_log(index.problems, data)
    log_notes(source.notes)
    check_masks(recipe, index.unmasked, len(index.training) + len(index.held_out))
    if not len(index.training):
        raise ValueError(f"{data.path} has no good row to train on")
    opener = Opener(source, recipe.policy, data.workers)
    rows = Epochs(index.training.tolist(), data.seed)
    return PhotoStream(opener, rows, data, recipe.rollout.tasks, asked)


def _evaluation_tasks(
    recipe: Recipe, data: Photos, own: Indexed, other: Indexed | None
) -> list[Task]:
    """Evaluation tasks of `other`, the dataset of `data.evaluation`; None: of the held-out rows."""
    source, index = other or own
    section = _evaluation_section(data) if other else data
    if other and index.problems.counts:
        refuse_or_log(index.problems, section)
    rows = Epochs((index.training if other else index.held_out).tolist(), seed=0)
    opener = Opener(source, recipe.policy, workers=0)
    return first_tasks(opener, rows, recipe.run.evaluation.tasks, section)


def open_source(data: Photos | DreamBench) -> Source:
    """The rows of a custom dataset.

    Raises:
        ValueError, OSError: there is none at its path, or not one of its kind.
    """
    return SOURCES[data.kind](data)


def fitted_tasks(tasks: Sequence[Task], policy: PolicySection) -> list[Task]:
    """With references in the policy's shape and size; photos that tasks share stay shared."""
    references: dict[int, Image.Image] = {}
    others: dict[int, Image.Image] = {}
    for task in tasks:
        if id(task.reference) not in references:
            references[id(task.reference)] = fit_reference(task.reference, policy)
        for photo in task.other_photos:
            if id(photo) not in others:
                others[id(photo)] = fit_held_out(photo)
    return [
        replace(
            task,
            reference=references[id(task.reference)],
            other_photos=tuple(others[id(photo)] for photo in task.other_photos),
        )
        for task in tasks
    ]
