"""A metric over the iterations of several runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from likewise.analysis.intervals import over_seeds


@dataclass(frozen=True)
class Curve:
    """One entry per iteration in which any run has the metric.

    Attributes:
        iterations: Ascending.
        mean: Over the runs that have it.
        low, high: Student's 95 % interval of the mean; of two runs the smaller and the larger; None
            for one.
        n: Number of runs. Where it changes, so may the mean, for no other reason.
    """

    iterations: list[int]
    mean: list[float]
    low: list[float | None]
    high: list[float | None]
    n: list[int]


def curve(runs: Sequence[Sequence[Mapping[str, Any]]], metric: str) -> Curve:
    """Mean and band of a metric over runs, each a list of rows of `metrics.jsonl` (or timings)."""
    seen: dict[int, list[float]] = {}
    for rows in runs:
        for row in rows:
            if row.get(metric) is not None:
                seen.setdefault(row["iteration"], []).append(row[metric])
    iterations = sorted(seen)
    bands = [_band(seen[iteration]) for iteration in iterations]
    return Curve(
        iterations=iterations,
        mean=[fmean(seen[iteration]) for iteration in iterations],
        low=[low for low, _ in bands],
        high=[high for _, high in bands],
        n=[len(seen[iteration]) for iteration in iterations],
    )


def _band(values: Sequence[float]) -> tuple[float | None, float | None]:
    if len(values) == 2:  # Student's interval of two values is 18 times as wide
        return min(values), max(values)
    estimate = over_seeds(values)
    return estimate.low, estimate.high
