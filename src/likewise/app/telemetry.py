"""What a run did so far, as charts and warnings: from the rows of its files alone."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Rows = Sequence[Mapping[str, Any]]
Point = tuple[float, float, float | None, float | None]  # x, y, and an interval of y if known

STEP = re.compile(r"weight/(.+)/step_(\d+)")
COSINE = re.compile(r"gradient/(cosine)/step_(\d+)")
RECENT = 5  # iterations that speed is judged by
CLEAR = 0.01  # changes of a mean that are less are not worth a warning
Z = 1.96


@dataclass(frozen=True)
class Chart:
    """Lines by name over iterations, or over steps."""

    title: str
    x: str
    lines: dict[str, list[Point]]
    note: str = ""


@dataclass(frozen=True)
class Plan:
    """What a recipe says that charts and warnings need.

    Attributes:
        rewards: Name → kind.
        iterations: In all.
        images: Per iteration.
        tasks: Of the evaluations during training; 0 where it is not known.
    """

    rewards: Mapping[str, str]
    iterations: int
    images: int
    tasks: int = 0


@dataclass(frozen=True)
class Telemetry:
    """One run.

    Attributes:
        done: Last finished iteration.
        eta: Seconds left; None where that is not known, 0 if the run has all its iterations.
    """

    done: int
    total: int
    eta: float | None
    charts: list[Chart]
    warnings: list[str] = field(default_factory=list)


def telemetry(plan: Plan, metrics: Rows, timings: Rows) -> Telemetry:
    """All of a run; what has no rows yet has no chart."""
    done = int(metrics[-1]["iteration"]) if metrics else 0
    charts = [
        Chart("Held-out evaluators", "iteration", _evaluators(plan, metrics),
              "mean over the evaluation's tasks; band: 1.96 standard errors, if tasks were "
              "independent"),
        Chart("Rewards in evaluations", "iteration", _means(plan.rewards, metrics, "eval/{}",
              "eval/{}/std", plan.tasks)),
        Chart("Rewards in training", "iteration", _means(plan.rewards, metrics, "reward/{}/mean",
              "reward/{}/std", plan.images), "tasks change from iteration to iteration"),
        Chart("Conflict", "iteration", _lines(metrics, {
              "conflict rate": "conflict_rate", "correlation of z": "correlation"})),
        Chart("Quadrants", "iteration", _lines(metrics, {
              f"prompt {sign[0]}, identity {sign[1]}": f"quadrant/{sign}"
              for sign in ("++", "+-", "-+", "--")})),
        Chart("Weights by step", "step", _by_step(metrics, STEP), "of the newest iterations"),
        Chart("Length of gradients", "iteration", _gradients(metrics)),
        Chart("Length of gradients by step", "step", _gradients_by_step(metrics),
              "median over updates, at the middle of the steps that each trained"),
        Chart("Cosine of the gradients by step", "step", _by_step(metrics, COSINE),
              "of the newest measurement; below 0 the rewards pull against each other"),
        Chart("Seconds", "iteration", _seconds(timings)),
    ]  # fmt: skip
    return Telemetry(
        done,
        plan.iterations,
        _eta(plan, done, timings),
        [chart for chart in charts if chart.lines],
        warnings(plan, metrics),
    )


def warnings(plan: Plan, metrics: Rows) -> list[str]:
    """What somebody should look at."""
    found = []
    newest = [row for row in metrics if row["iteration"] > 0][-RECENT:]
    for name in plan.rewards:
        missing = sum(int(row.get(f"reward/{name}/missing") or 0) for row in newest)
        if missing:
            found.append(
                f"reward {name} was missing for {missing} images of the last "
                f"{len(newest)} iterations"
            )
    if any(row.get("images/flat") or row.get("images/not_finite") for row in newest):
        found.append("some images are of a single colour, or not finite: nothing scores them")
    for name, kind in plan.rewards.items():
        change = _change(metrics, f"reward/{name}/mean")
        if kind == "copy-index" and change > CLEAR:
            found.append(f"copy index {name} rises: images become more like the reference photo")
        if kind == "in-group-diversity" and change < -CLEAR:
            found.append(f"diversity {name} falls: images of a task become alike")
    up = [name for name in plan.rewards if _change(metrics, f"eval/{name}") > CLEAR]
    for key in _evaluator_keys(metrics):
        if up and _change(metrics, key) < -CLEAR:
            evaluator = key.removeprefix("eval/")
            found.append(
                f"{evaluator} falls while {', '.join(up)} rises: that may be reward hacking"
            )
    return found


def change_of_evaluators(metrics: Rows) -> dict[str, float] | None:
    """From first to last evaluation: `identity` and `prompt`; None where there are not two of both.

    Their difference is which way a run leans.
    """
    found = {}
    for name in ("identity", "prompt"):
        key = f"eval/evaluator/{name}"
        values = [row[key] for row in metrics if row.get(key) is not None]
        if len(values) < 2:
            return None
        found[name] = float(values[-1] - values[0])
    return found


def _evaluator_keys(metrics: Rows) -> list[str]:
    keys = {key: None for row in metrics for key in row if key.startswith("eval/evaluator/")}
    return [key for key in keys if not key.endswith("/std")]


def _evaluators(plan: Plan, metrics: Rows) -> dict[str, list[Point]]:
    names = [key.removeprefix("eval/evaluator/") for key in _evaluator_keys(metrics)]
    return _means(names, metrics, "eval/evaluator/{}", "eval/evaluator/{}/std", plan.tasks)


def _means(
    names: Iterable[str], metrics: Rows, key: str, deviation: str, n: int
) -> dict[str, list[Point]]:
    """Means with ± 1.96 standard errors of n values; without, where either is not known."""
    found: dict[str, list[Point]] = {}
    for name in names:
        points: list[Point] = []
        for row in metrics:
            value, std = row.get(key.format(name)), row.get(deviation.format(name))
            if value is None:
                continue
            reach = None if std is None or n < 2 else Z * std / math.sqrt(n)
            low, high = (None, None) if reach is None else (value - reach, value + reach)
            points.append((row["iteration"], value, low, high))
        if points:
            found[name] = points
    return found


def _lines(rows: Rows, keys: Mapping[str, str]) -> dict[str, list[Point]]:
    """Name → values of a key, without intervals."""
    found: dict[str, list[Point]] = {}
    for name, key in keys.items():
        points: list[Point] = [
            (row["iteration"], row[key], None, None) for row in rows if row.get(key) is not None
        ]
        if points:
            found[name] = points
    return found


def _by_step(metrics: Rows, pattern: re.Pattern[str]) -> dict[str, list[Point]]:
    """By name, what was last known of each step; `pattern` finds name and step in a key."""
    newest: dict[str, dict[int, float]] = {}
    for row in metrics:
        for key, value in row.items():
            match = pattern.fullmatch(key)
            if match and value is not None:
                newest.setdefault(match[1], {})[int(match[2])] = value
    return {
        name: [(step, value, None, None) for step, value in sorted(steps.items())]
        for name, steps in newest.items()
    }


def _gradients(metrics: Rows) -> dict[str, list[Point]]:
    keys = {key: None for row in metrics for key in row if key.startswith("gradient/norm/")}
    named = {key.removeprefix("gradient/norm/"): key for key in keys}
    return _lines(metrics, {"whole": "update/grad_norm", **named})


def _gradients_by_step(metrics: Rows) -> dict[str, list[Point]]:
    from likewise.analysis.credit_shares import gradient_norms  # pyarrow takes a second

    points: list[Point] = [
        (sum(steps) / len(steps), norm, None, None)
        for steps, norm in gradient_norms(metrics).items()
    ]
    return {"whole": points} if points else {}


def _seconds(timings: Rows) -> dict[str, list[Point]]:
    keys = {key: None for row in timings for key in row if key.startswith("seconds/")}
    return _lines(timings, {key.removeprefix("seconds/"): key for key in keys})


def _eta(plan: Plan, done: int, timings: Rows) -> float | None:
    """Evaluations are not in it."""
    seconds = [row["seconds/total"] for row in timings if row.get("seconds/total") is not None]
    left = plan.iterations - done
    if left <= 0:
        return 0.0
    recent = seconds[-RECENT:]
    return left * sum(recent) / len(recent) if recent else None


def _change(metrics: Rows, key: str) -> float:
    """Mean of the last third of the values minus mean of the first third; 0 for fewer than 2."""
    values = [row[key] for row in metrics if row.get(key) is not None]
    if len(values) < 2:
        return 0.0
    third = max(1, len(values) // 3)
    return float(sum(values[-third:]) / third - sum(values[:third]) / third)
