"""Benchmarks by name."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from pathlib import Path

from likewise.config.evaluation_settings import STICKERS
from likewise.config.policy_sections import PolicySection
from likewise.config.problems import nearest
from likewise.data.sources.dreambench import dreambench_tasks
from likewise.data.sources.fitting import fit_reference
from likewise.data.stickers.world import bench_tasks, tuning_tasks
from likewise.data.subsets import spread
from likewise.fingerprints import exact_half, fingerprint
from likewise.types import Task

STICKER_TASKS = dict(zip(STICKERS, (bench_tasks, tuning_tasks), strict=True))
DREAMBENCH = "dreambench"  # nothing of that name is shipped: a folder must be given


def load_benchmark(
    name: str | Path, tasks: int | None = None, without: Collection[str] = ()
) -> list[Task]:
    """A benchmark's tasks, or so many of them, evenly over subjects and prompts.

    Args:
        name: ``sticker-bench``, ``sticker-tuning``, or a folder in google/dreambooth's layout.
        without: Ids of tasks to leave out.

    Raises:
        ValueError, OSError: there is no such benchmark, it is damaged, or it has no tasks.
    """
    if str(name) in STICKER_TASKS:
        found = STICKER_TASKS[str(name)]()
    elif Path(name).is_dir() or str(name) == DREAMBENCH or os.sep in str(name):
        found = dreambench_tasks(Path(name))
    else:
        meant = nearest(name, [*STICKERS, DREAMBENCH])
        raise ValueError(f"no benchmark and no folder {str(name)!r}; {meant}")
    found = [task for task in found if task.id not in without]
    found = found if tasks is None else spread(found, tasks)
    if not found:
        raise ValueError(f"the benchmark {name} has no tasks: at least one is needed")
    return found


def same_tasks(tasks: Sequence[Task], others: Sequence[Task], policy: PolicySection) -> set[str]:
    """Ids of those `tasks` that have prompt and reference in common with any of `others`.

    Args:
        others: With references that may have been brought to what the policy takes.
    """
    known = {(task.prompt, exact_half(fingerprint(task.reference))) for task in others}
    marks: dict[int, list[str]] = {}  # tasks of a subject share the reference
    for task in tasks:
        if id(task.reference) not in marks:
            looks = (task.reference, fit_reference(task.reference, policy))
            marks[id(task.reference)] = [exact_half(fingerprint(one)) for one in looks]
    return {
        task.id
        for task in tasks
        if any((task.prompt, mark) in known for mark in marks[id(task.reference)])
    }
