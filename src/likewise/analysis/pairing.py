"""Two arms on the same tasks with the same seeds: their paired difference."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from likewise.analysis.intervals import Estimate, cluster_bootstrap, over_seeds, sign_flip

KEYS = ["seed", "task", "subject"]


@dataclass(frozen=True)
class Paired:
    """Ours minus baseline.

    Attributes:
        over_subjects: Mean over tasks, each averaged over seeds first, with an interval from a
            bootstrap over subjects: would it hold for other subjects? `n` counts tasks.
        over_seeds: Mean over seeds, with Student's interval: would it hold for other trainings?
            Without gaps in the tables the two means are equal.
        p_subjects, p_seeds: Two-sided p that there is no difference, from flipping the signs of
            whole subjects, and of whole seeds (see `sign_flip` for the least p possible).
        n_subjects, n_seeds: How many of them have a pair.
        pairs: (seed, task) pairs with a value on both sides.
        left_out: (seed, task) pairs without a value on one side or on both.
    """

    over_subjects: Estimate
    over_seeds: Estimate
    p_subjects: float
    p_seeds: float
    n_subjects: int
    n_seeds: int
    pairs: int
    left_out: int

    @property
    def mean(self) -> float | None:
        """Mean of `over_subjects`; None without pairs."""
        return self.over_subjects.mean


def paired(ours: pa.Table, baseline: pa.Table, metric: str) -> Paired:
    """The difference ours − baseline of a metric, over pairs of equal seed and task.

    Args:
        ours, baseline: One row per image, with columns `subject`, `task`, `seed` and `metric`
            (null or NaN where missing): the `scores.parquet` of all seeds, joined, with the seed of
            each training. Several images of a task are averaged first.

    Raises:
        KeyError: a column is missing.
    """
    joined = (
        _averages(ours, metric, "ours")
        .join(_averages(baseline, metric, "baseline"), KEYS, join_type="full outer")
        .sort_by([(key, "ascending") for key in KEYS])
    )
    difference = pc.subtract(joined["ours"], joined["baseline"])
    pairs = joined.append_column("difference", difference).filter(pc.is_valid(difference))
    tasks = pairs.group_by(["subject", "task"]).aggregate([("difference", "mean")])
    subjects = tasks.group_by("subject").aggregate([("difference_mean", "sum")])
    seeds = pairs.group_by("seed").aggregate([("difference", "mean")])["difference_mean"]
    return Paired(
        over_subjects=cluster_bootstrap(
            tasks["difference_mean"].to_numpy(), np.array(tasks["subject"].to_pylist())
        ),
        over_seeds=over_seeds(seeds.to_numpy()),
        # The mean is the sum of the subjects' sums over a number that no flip changes.
        p_subjects=sign_flip(subjects["difference_mean_sum"].to_numpy()),
        p_seeds=sign_flip(seeds.to_numpy()),
        n_subjects=subjects.num_rows,
        n_seeds=len(seeds),
        pairs=pairs.num_rows,
        left_out=joined.num_rows - pairs.num_rows,
    )


def _averages(table: pa.Table, metric: str, name: str) -> pa.Table:
    """Mean of the known values of each (seed, task), null where there is none."""
    values = table[metric].cast(pa.float64())
    known = pc.if_else(pc.is_finite(values), values, None)
    means = table.select(KEYS).append_column(name, known).group_by(KEYS).aggregate([(name, "mean")])
    return means.rename_columns([*KEYS, name])
