"""Benchmarks by name."""

from __future__ import annotations

import os
from pathlib import Path

from likewise.config.problems import nearest
from likewise.data.dreambench import dreambench_tasks
from likewise.data.stickers import bench_tasks
from likewise.data.subsets import spread
from likewise.types import Task

STICKER_BENCH = "sticker-bench"
DREAMBENCH = "dreambench"  # nothing of that name is shipped: a folder must be given


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
