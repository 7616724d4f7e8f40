"""The same tasks from the same noise, before and after training: numbers, and a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image
from scipy import stats

from likewise.protocols import Policy, Reward
from likewise.rollout.sampler import Sampler
from likewise.rollout.scoring import Scores, score_pictures, to_pil
from likewise.rollout.trajectories import draw_pictures
from likewise.seeding import derive_seed
from likewise.sheets import contact_sheet, short_caption
from likewise.types import Task

RESAMPLES = 2000


@dataclass(frozen=True)
class Measure:
    """One scorer's mean over all tasks it could score both times.

    Attributes:
        before, after: Means; None where nothing could be scored.
        low, high: 95 % interval of the difference, from a bootstrap over subjects (tasks of one
            subject are not independent); None with fewer than two subjects.
        tasks: How many.
    """

    before: float | None
    after: float | None
    low: float | None
    high: float | None
    tasks: int


@dataclass(frozen=True)
class Comparison:
    """Pictures and scores of the same tasks, before and after.

    Attributes:
        tasks: In the order of everything else.
        names: Of the scorers, in the order of the rows of scores.
        before, after: Pictures.
        old, new: Scores [K, B] of them.
    """

    tasks: Sequence[Task]
    names: Sequence[str]
    before: Sequence[Image.Image]
    after: Sequence[Image.Image]
    old: Scores
    new: Scores

    def measures(self, kind: str | None = None) -> dict[str, Measure]:
        """A measure per scorer, over all tasks or those of one kind."""
        rows = [row for row, task in enumerate(self.tasks) if kind in (None, task.kind)]
        return {name: self._measure(k, rows) for k, name in enumerate(self.names)}

    def _measure(self, k: int, rows: Sequence[int]) -> Measure:
        known = [row for row in rows if self.old.valid[k, row] and self.new.valid[k, row]]
        if not known:
            return Measure(None, None, None, None, 0)
        before, after = self.old.values[k, known].double(), self.new.values[k, known].double()
        subjects = [self.tasks[row].subject for row in known]
        low, high = subject_interval((after - before).numpy(), subjects)
        return Measure(float(before.mean()), float(after.mean()), low, high, len(known))


def compare(
    policy: Policy,
    sampler: Sampler,
    tasks: Sequence[Task],
    scorers: Mapping[str, Reward],
    micro_batch: int,
    seed: int = 0,
) -> Comparison:
    """Draw every task with the adapter and without, from the same noise, and score both.

    Raises:
        ValueError: a scorer fails (the message names it).
    """

    def draw() -> list[Image.Image]:
        pictures = draw_pictures(
            policy, sampler, tasks, micro_batch, lambda task: derive_seed("compare", seed, task.id)
        )
        return to_pil(pictures)

    after = draw()
    with policy.adapter_disabled():
        before = draw()
    old, new = score_pictures(scorers, before, tasks), score_pictures(scorers, after, tasks)
    for name, reason in {**old.failures, **new.failures}.items():
        raise ValueError(f"{name} failed: {reason}")
    return Comparison(tasks, list(scorers), before, after, old, new)


def subject_interval(
    differences: np.ndarray, subjects: Sequence[str]
) -> tuple[float | None, float | None]:
    """95 % interval of the mean difference [n], by a bootstrap that draws whole subjects.

    Percentile method, with a fixed seed; (None, None) with fewer than two subjects.
    """
    groups = sorted(set(subjects))
    if len(groups) < 2:
        return None, None
    place = np.array([groups.index(subject) for subject in subjects])
    sums = np.bincount(place, weights=differences)
    counts = np.bincount(place)

    def mean(sums: np.ndarray, counts: np.ndarray, axis: int = -1) -> np.ndarray:
        return sums.sum(axis=axis) / counts.sum(axis=axis)

    drawn = stats.bootstrap(
        (sums, counts),
        mean,
        paired=True,
        n_resamples=RESAMPLES,
        method="percentile",
        rng=np.random.default_rng(0),
    )
    return float(drawn.confidence_interval.low), float(drawn.confidence_interval.high)


def picture(comparison: Comparison, shown: int = 16, columns: int = 8) -> Image.Image:
    """The first `shown` tasks in blocks of three rows: reference, before, after."""
    rows: list[tuple[list[str], list[Image.Image]]] = []
    for start in range(0, min(shown, len(comparison.tasks)), columns):
        part = slice(start, min(start + columns, shown))
        tasks = comparison.tasks[part]
        rows.append(([short_caption(task) for task in tasks], [task.reference for task in tasks]))
        rows.append((["before"] * len(tasks), list(comparison.before[part])))
        rows.append((["after"] * len(tasks), list(comparison.after[part])))
    return contact_sheet(rows)
