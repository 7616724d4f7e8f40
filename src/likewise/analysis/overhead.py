"""What a run costs: seconds per phase and memory, and how that compares with a baseline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any


@dataclass(frozen=True)
class Cost:
    """Cost of one run, or of one arm.

    Attributes:
        seconds: Phase → median seconds; `total` is a whole iteration.
        peak_memory_mb: Largest seen; None where not recorded.
    """

    seconds: dict[str, float]
    peak_memory_mb: float | None


@dataclass(frozen=True)
class Ratio:
    """One cost over another.

    Attributes:
        seconds: Phase → ratio, for phases that both have.
        peak_memory: None where one was not recorded.
    """

    seconds: dict[str, float]
    peak_memory: float | None


def run_cost(timings: Sequence[Mapping[str, Any]]) -> Cost:
    """Medians over the iterations of a run after its first, which also warms up.

    A phase that not every iteration has (`evaluation`) is the median of those that have it.
    Peak memory is over all iterations.
    """
    rows = sorted(timings, key=lambda row: row["iteration"])
    memory = [row["peak_memory_mb"] for row in rows if row.get("peak_memory_mb") is not None]
    return Cost(_medians([_seconds(row) for row in rows[1:]]), max(memory, default=None))


def arm_cost(runs: Sequence[Sequence[Mapping[str, Any]]]) -> Cost:
    """Median over the runs of an arm, of each phase and of peak memory."""
    costs = [run_cost(timings) for timings in runs]
    memory = [cost.peak_memory_mb for cost in costs if cost.peak_memory_mb is not None]
    return Cost(_medians([cost.seconds for cost in costs]), median(memory) if memory else None)


def relative(ours: Cost, baseline: Cost) -> Ratio:
    """Ours over baseline."""
    seconds = {
        phase: seconds / baseline.seconds[phase]
        for phase, seconds in ours.seconds.items()
        if baseline.seconds.get(phase)
    }
    memory, other = ours.peak_memory_mb, baseline.peak_memory_mb
    return Ratio(seconds, memory / other if memory and other else None)


def _seconds(row: Mapping[str, float | None]) -> dict[str, float]:
    """Phase → seconds, of a timings row."""
    return {
        key.removeprefix("seconds/"): value
        for key, value in row.items()
        if key.startswith("seconds/") and value is not None
    }


def _medians(parts: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Median of each phase, over the parts that have it; in order of appearance."""
    phases = dict.fromkeys(phase for part in parts for phase in part)
    return {phase: median(part[phase] for part in parts if phase in part) for phase in phases}
