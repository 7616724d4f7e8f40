"""The tables of a study's evaluations, joined: what results are computed from."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from likewise.study.units import SUMMARY, Plan, Unit

LABELS = ("subject", "task", "category", "kind", "complexity")  # of a task
FIRST = ("evaluator/", "reward/")  # metrics in this order, then all others as they come


def read_scores(plan: Plan, arm: str, done: Sequence[Unit]) -> pa.Table | None:
    """Scores of the arm's images over all finished seeds, with the seed; None without any."""
    found = []
    for seed in plan.study.seeds:
        unit = Unit("evaluate", arm, seed)
        if unit in done:
            table = pq.read_table(plan.scores(unit))
            numbers = pa.array([seed] * table.num_rows, pa.int64())
            found.append(table.append_column("seed", numbers))
    return pa.concat_tables(found, promote_options="permissive") if found else None


def read_trained_on(plan: Plan, arm: str, done: Sequence[Unit]) -> str:
    """What evaluations say of an arm that was trained on the benchmark's subjects; else empty.

    Of several seeds the first that was.
    """
    units = [Unit("evaluate", arm, seed) for seed in plan.study.seeds]
    for unit in (unit for unit in units if unit in done):
        summary = json.loads((plan.evaluation(unit) / SUMMARY).read_text(encoding="utf-8"))
        if said := summary.get("trained_on", {}).get("after"):
            return str(said)
    return ""


def metric_names(tables: Sequence[pa.Table]) -> list[str]:
    """Columns of fractions that any table has: evaluators, rewards, then all others."""
    names = dict.fromkeys(
        field.name for table in tables for field in table.schema if pa.types.is_floating(field.type)
    )
    rank = {name: [name.startswith(start) for start in FIRST] for name in names}
    return sorted(names, key=lambda name: rank[name], reverse=True)


def over_seeds_first(table: pa.Table, metrics: Sequence[str]) -> pa.Table:
    """One row per task: means over seeds and images."""
    have = [name for name in metrics if name in table.column_names]
    known = table.select([*LABELS, *have])
    means = known.group_by(list(LABELS)).aggregate([(name, "mean") for name in have])
    return means.rename_columns([*LABELS, *have])


def column(table: pa.Table, name: str) -> np.ndarray:
    """float64, null as NaN."""
    return table[name].cast(pa.float64()).to_numpy()
