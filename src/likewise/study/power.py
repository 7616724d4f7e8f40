"""How many seeds a study needs, from the seeds that it has."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from likewise.analysis.seeds_needed import Spread, seeds_needed, spread_of
from likewise.study.scores import column

DIFFERENCES = (0.002, 0.005, 0.01, 0.015, 0.02)


def seeds_by_difference(
    tables: Mapping[str, pa.Table | None], baseline: str, metrics: Sequence[str]
) -> list[dict[str, Any]]:
    """For each metric and arm: how paired differences to the baseline spread, and the number of
    seeds that shows some with a power of 80 %, with as many tasks; null above 1000.

    The baseline stands for two arms that share neither training tasks nor noise: what pairing
    saves is the difference to that.

    Args:
        tables: Of all arms, see `scores.read_scores`; arms and metrics with fewer than two seeds in
            common, or a value missing, are left out.
    """
    theirs, found = tables[baseline], []
    for metric in metrics if theirs is not None else ():
        for arm, ours in tables.items():
            grid = None if ours is None else _differences(ours, theirs, metric)
            if grid is None:
                continue
            differences, subjects = grid
            try:
                spread = spread_of(differences, subjects)
            except ValueError:
                continue  # too few seeds, subjects or tasks
            count = (len(subjects), len(set(subjects.tolist())))
            found.append({"metric": metric, "arm": arm, **_row(spread, *count)})
    return found


def _row(spread: Spread, tasks: int, subjects: int) -> dict[str, Any]:
    of_mean = spread.of_mean(tasks, subjects)
    needed = {f"{one:g}": seeds_needed(one, of_mean) for one in DIFFERENCES}
    parts = {"seed": spread.seed, "subject": spread.subject, "image": spread.image}
    return {**parts, "tasks": tasks, "of_mean": of_mean, "needed": needed}


def _differences(
    ours: pa.Table, theirs: pa.Table, metric: str
) -> tuple[np.ndarray, np.ndarray] | None:
    """Differences [s, n] over the seeds of both, and subjects [n]; None where any is missing.

    Of the baseline with itself: its own values, √2 times, as each of two arms would spread so.
    """
    if metric not in ours.column_names or metric not in theirs.column_names:
        return None
    (own, subjects), (base, _) = _grid(ours, metric), _grid(theirs, metric)
    seeds = sorted(own.keys() & base.keys())
    lengths = {len(one) for seed in seeds for one in (own[seed], base[seed])}
    if len(seeds) < 2 or lengths != {len(subjects)}:
        return None
    values = [
        math.sqrt(2) * own[seed] if ours is theirs else own[seed] - base[seed] for seed in seeds
    ]
    found = np.stack(values)
    return (found, subjects) if np.isfinite(found).all() else None


def _grid(table: pa.Table, metric: str) -> tuple[dict[int, np.ndarray], np.ndarray]:
    """Seed → values by task, means over images, in one order; and the subjects of the tasks."""
    keys = ["seed", "task", "subject"]
    means = table.group_by(keys).aggregate([(metric, "mean")])
    ordered = means.sort_by([(key, "ascending") for key in keys])
    found, subjects = {}, np.array([])
    for seed in sorted(set(ordered["seed"].to_pylist())):
        own = ordered.filter(pc.equal(ordered["seed"], seed))
        found[seed] = column(own, f"{metric}_mean")
        subjects = np.array(own["subject"].to_pylist())
    return found, subjects
