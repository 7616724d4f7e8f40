"""All numbers of a study, from the units that are finished: ``results.json``.

Intervals and p are those of `analysis`; what they are made of is in docs/studies.md.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from likewise.analysis.intervals import Estimate, cluster_bootstrap, over_seeds
from likewise.analysis.overhead import arm_cost, relative
from likewise.analysis.pairing import paired
from likewise.analysis.pareto import front, hypervolume
from likewise.analysis.robustness import cells
from likewise.analysis.spoilt_counts import count_spoilt, in_words
from likewise.records import RunDirectory, collect_environment
from likewise.records.environment import command_line
from likewise.study.power import seeds_by_difference
from likewise.study.scores import (
    FIRST,
    column,
    metric_names,
    over_seeds_first,
    read_scores,
    read_trained_on,
)
from likewise.study.units import BASE_UNIT, Plan, Unit

Json = dict[str, Any]


def compute_results(plan: Plan) -> Json:
    """Everything that ``results.json`` holds; arms and seeds without an evaluation are left out.

    An arm's numbers are `versus` those of the baseline over the seeds that both have.

    Raises:
        OSError, ValueError: a table that should be there cannot be read.
    """
    study, aims = plan.study, plan.study.evaluation.axes
    done = [unit for unit in plan.units if plan.state(unit) == "finished"]
    tables = {arm: read_scores(plan, arm, done) for arm in study.arms}
    base = pq.read_table(plan.scores(BASE_UNIT)) if BASE_UNIT in done else None
    known = [table for table in (base, *tables.values()) if table is not None]
    metrics = metric_names(known)
    reference = _at(aims, base) if base is not None else None
    arms = {
        arm: _arm(plan, arm, table, tables[study.baseline], metrics, reference)
        for arm, table in tables.items()
        if table is not None
    }
    _mark_front(arms, aims)
    trained_on = _mark_trained_on(plan, arms, done)
    drawn = {arm["label"]: tables[name] for name, arm in arms.items()}
    drawn |= {} if base is None else {"untrained": base}
    _add_overhead(plan, arms, done)
    return {
        "study": study.name,
        "description": study.description,
        "baseline": study.baseline,
        "seeds": study.seeds,
        "tasks": study.evaluation.tasks,
        "benchmark": study.evaluation.benchmark,
        "protocol": study.evaluation.protocol,
        "metrics": metrics,
        "aims": list(aims),
        "base": {} if base is None else _estimates(base, metrics),
        "reference": reference,
        "arms": arms,
        "contrasts": _contrasts(plan, tables, metrics),
        "power": seeds_by_difference(tables, study.baseline, aims),
        "trained_on": trained_on,
        "spoilt": _spoilt(drawn),
        "missing": [str(unit) for unit in plan.units if unit not in done],
        "commands": [_command(plan.words(unit, afresh=True)) for unit in plan.units],
        "environment": _environment(plan, done),
    }


def _command(words: Sequence[str]) -> str:
    """A command line without the folders of absolute paths, which may name a person."""
    return shlex.join(command_line(["likewise", *words]))


def _arm(
    plan: Plan,
    arm: str,
    table: pa.Table,
    baseline: pa.Table | None,
    metrics: Sequence[str],
    reference: list[float] | None,
) -> Json:
    means = over_seeds_first(table, metrics)
    seeds = sorted(set(table["seed"].to_pylist()))
    robust = [name for name in metrics if name.startswith(FIRST)]
    return {
        "label": plan.study.arms[arm].label or arm,
        "seeds": seeds,
        "metrics": {
            name: {**estimate, "per_seed": _per_seed(table, name, seeds)}
            for name, estimate in _estimates(means, metrics).items()
        },
        "versus": {}
        if baseline is None or arm == plan.study.baseline
        else _differences(table, baseline, metrics),
        "hypervolume": _hypervolume(plan.study.evaluation.axes, table, seeds, reference),
        "pareto": False,
        "robustness": _cells(means, robust, ("category", "complexity")),
        "by_kind": _cells(means, robust, ("kind",)),
    }


def _estimates(table: pa.Table, metrics: Sequence[str]) -> dict[str, Json]:
    subjects = np.array(table["subject"].to_pylist())
    return {
        name: asdict(cluster_bootstrap(column(table, name), subjects))
        for name in metrics
        if name in table.column_names
    }


def _per_seed(table: pa.Table, metric: str, seeds: Sequence[int]) -> list[float | None]:
    """Mean of each seed's images."""
    tables = [table.filter(pc.equal(table["seed"], seed)) for seed in seeds]
    return [pc.mean(own[metric]).as_py() for own in tables]


def _contrasts(
    plan: Plan, tables: Mapping[str, pa.Table | None], metrics: Sequence[str]
) -> list[Json]:
    """Paired differences of the study's further pairs, as far as both arms were evaluated."""
    found = []
    for arm, other in plan.study.contrasts:
        table, against = tables[arm], tables[other]
        if table is not None and against is not None:
            labels = [plan.study.arms[name].label or name for name in (arm, other)]
            versus = _differences(table, against, metrics)
            found.append({"arm": arm, "than": other, "labels": labels, "versus": versus})
    return found


def _differences(table: pa.Table, baseline: pa.Table, metrics: Sequence[str]) -> dict[str, Json]:
    """Paired differences to the baseline, over the seeds and tasks that both have."""
    found = {}
    for metric in metrics:
        if metric not in table.column_names or metric not in baseline.column_names:
            continue
        pair = paired(table, baseline, metric)
        if pair.mean is None:
            continue
        found[metric] = {
            "mean": pair.mean,
            "over_seeds": [pair.over_seeds.low, pair.over_seeds.high],
            "over_subjects": [pair.over_subjects.low, pair.over_subjects.high],
            "p_subjects": pair.p_subjects,
            "p_seeds": pair.p_seeds,
            "n_seeds": pair.n_seeds,
            "n_subjects": pair.n_subjects,
        }
    return found


def _at(aims: Sequence[str], table: pa.Table) -> list[float] | None:
    """Means of both aims; None where nothing measured one of them."""
    if not set(aims) <= set(table.column_names):
        return None
    means = [pc.mean(table[name]).as_py() for name in aims]
    return None if None in means else means


def _hypervolume(
    aims: Sequence[str], table: pa.Table, seeds: Sequence[int], reference: list[float] | None
) -> Json:
    """Hypervolume of each seed's point above the untrained model; None without that model."""
    points = [_at(aims, table.filter(pc.equal(table["seed"], seed))) for seed in seeds]
    if reference is None or None in points:
        return {**asdict(Estimate(None, None, None, 0)), "per_seed": []}
    areas = [hypervolume(np.array([point]), np.array(reference)) for point in points]
    return {**asdict(over_seeds(areas)), "per_seed": areas}


def _mark_front(arms: dict[str, Json], aims: Sequence[str]) -> None:
    """Which arms' means no other arm's dominate; the untrained model does not compete."""
    evaluated = [arm for arm in arms.values() if set(aims) <= set(arm["metrics"])]
    points = [[arm["metrics"][name]["mean"] for name in aims] for arm in evaluated]
    for arm, is_on in zip(evaluated, front(np.array(points, dtype=float)), strict=True):
        arm["pareto"] = bool(is_on)


def _mark_trained_on(plan: Plan, arms: dict[str, Json], done: Sequence[Unit]) -> dict[str, str]:
    """Put a star on labels of arms that were trained on the benchmark, and say on what of it."""
    found = {}
    for name, arm in arms.items():
        if said := read_trained_on(plan, name, done):
            arm["label"] += " *"
            found[arm["label"]] = said
    return found


def _spoilt(drawn: Mapping[str, pa.Table | None]) -> dict[str, str]:
    """Arm's label → which of its images have no scores, in words; without arms that lack none."""
    found = {
        label: in_words(count_spoilt(table)) for label, table in drawn.items() if table is not None
    }
    return {label: said for label, said in found.items() if said}


def _cells(table: pa.Table, metrics: Sequence[str], by: Sequence[str]) -> list[Json]:
    return [
        {
            **cell.labels,
            "n": cell.n,
            **{name: asdict(estimate) for name, estimate in cell.estimates.items()},
        }
        for cell in cells(table, metrics, by)
    ]


def _add_overhead(plan: Plan, arms: dict[str, Json], done: Sequence[Unit]) -> None:
    """Seconds and memory of each arm's finished runs, and what of the baseline's that is."""
    costs = {}
    for arm in plan.study.arms:
        units = [unit for unit in done if unit.kind == "train" and unit.arm == arm]
        runs = [RunDirectory.open(plan.run(unit)) for unit in units]
        costs[arm] = arm_cost([run.read_timings() for run in runs])
    for arm, numbers in arms.items():
        ratio = relative(costs[arm], costs[plan.study.baseline])
        numbers["overhead"] = {
            "seconds": costs[arm].seconds,
            "relative": ratio.seconds,
            "peak_memory_mb": costs[arm].peak_memory_mb,
            "relative_memory": ratio.peak_memory,
        }


def _environment(plan: Plan, done: Sequence[Unit]) -> Json:
    """Environment of the first finished run, which may be from elsewhere; else of this machine."""
    runs = [plan.run(unit) for unit in done if unit.kind == "train"]
    found = RunDirectory.open(runs[0]).environment if runs else collect_environment()
    return {key: value for key, value in found.items() if key not in ("command", "started")}
