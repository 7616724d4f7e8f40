"""What credit is made of, as the reward tables of a run tell: who pushes which step, and how."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from likewise.analysis.conflict import at_stake, z_scores

ADVANTAGE = "advantage/step_"


@dataclass(frozen=True)
class Pressure:
    """How hard a step of the sampling schedule is pushed, over all images trained there.

    Attributes:
        n: Number of images.
        advantage: Mean |A|.
        rewards: Mean |w_k·z_k| per reward; None where credit is not a weighted sum of z (all
            weights are 0: a combined reward such as GDPO's, or a single reward).
    """

    n: int
    advantage: float
    rewards: dict[str, float] | None


@dataclass(frozen=True)
class LinearCredit:
    """How far advantages are a straight line in the rewards' z.

    Attributes:
        share: Of their sum of squares that lines through 0 explain, one for each step; 1 for any
            weighted sum. None without images.
        slopes: Of each reward, mean over steps.
        n: Number of images, counted once per trained step.
    """

    share: float | None
    slopes: dict[str, float]
    n: int


def pressure(
    rewards: pa.Table, metrics: Sequence[Mapping[str, Any]], names: Sequence[str]
) -> dict[int, Pressure]:
    """What each true step of the schedule is pushed by, in order of the steps.

    For a reward k at step t: the mean of |w_k(t)·z_k| over the images of all iterations that
    trained step t, with the weight that the iteration's metrics row holds; z_k is that of the
    step's gains where a rule credits those.
    `tdw-as-released` gives each image its own weights; its metrics hold their mean.

    Args:
        rewards: Of one or more iterations; those without a metrics row are left out.
        metrics: Rows of `metrics.jsonl`.
        names: Of the rewards.

    Raises:
        KeyError: a column is missing, or a weight in a metrics row.
    """
    if not rewards.num_rows:
        return {}
    rows = {row["iteration"]: row for row in metrics}
    table = at_stake(rewards, names)
    table = table.filter(pc.is_in(table["iteration"], pa.array(list(rows), pa.int64())))
    found = {}
    for step, trained, advantages in _steps(table):
        keys = [f"weight/{name}/step_{step:02d}" for name in names]
        mine = [rows[iteration] for iteration in trained["iteration"].to_pylist()]
        weights = np.array([[row[key] for row in mine] for key in keys])
        pushes = np.abs(weights * z_scores(trained, _at_step(trained, names, step))).mean(1)
        found[step] = Pressure(
            n=trained.num_rows,
            advantage=float(np.abs(advantages).mean()),
            rewards=dict(zip(names, pushes.tolist(), strict=True)) if weights.any() else None,
        )
    return found


def linear_credit(rewards: pa.Table, names: Sequence[str]) -> LinearCredit:
    """Least squares of A[b, t] on the z of all `names`, for every trained step t on its own.

    A shaping whose credit is nearly such a line is nearly another weighted sum, and as Adam takes
    no notice of a common factor, it cannot train very differently from one.

    Args:
        rewards: Of one or more iterations, of one or more runs.

    Raises:
        KeyError: a column is missing.
    """
    left, total, count = 0.0, 0.0, 0
    slopes = []
    for _, trained, advantages in _steps(at_stake(rewards, names) if rewards.num_rows else rewards):
        z = z_scores(trained, names)
        line = np.linalg.lstsq(z.T, advantages, rcond=None)[0]
        left += float(((advantages - line @ z) ** 2).sum())
        total += float((advantages**2).sum())
        count += len(advantages)
        slopes.append(line)
    means = np.mean(slopes, axis=0).tolist() if slopes else []
    share = 1 - left / total if total > 0 else None
    return LinearCredit(share, dict(zip(names, means, strict=False)), count)


def gradient_norms(metrics: Sequence[Mapping[str, Any]]) -> dict[tuple[int, ...], float]:
    """Median norm of the update's gradient, before clipping, by the steps that it trained.

    Where steps differ much, an optimiser that scales each parameter by its typical gradient, as
    Adam does, learns little from those with small ones.

    Args:
        metrics: Rows of `metrics.jsonl`, of one or more runs; updates that were skipped, and rows
            of evaluations, do not count.
    """
    norms: dict[tuple[int, ...], list[float]] = {}
    for row in metrics:
        steps = {int(key[-2:]) for key in row if re.fullmatch(r"weight/.+/step_\d\d", key)}
        norm = row.get("update/grad_norm")
        if steps and norm is not None:
            norms.setdefault(tuple(sorted(steps)), []).append(norm)
    return {steps: median(norms[steps]) for steps in sorted(norms)}


def _steps(table: pa.Table) -> Iterator[tuple[int, pa.Table, np.ndarray]]:
    """Each true step in order, the images that trained it, and their advantages there."""
    columns = [column for column in table.column_names if column.startswith(ADVANTAGE)]
    for column in sorted(columns, key=_step):
        trained = table.filter(pc.is_valid(table[column]))
        if trained.num_rows:
            yield _step(column), trained, trained[column].to_numpy()


def _at_step(table: pa.Table, names: Sequence[str], step: int) -> list[str]:
    """Names whose z columns are those of the step, where credit by gains has left such."""
    own = [f"{name}/step_{step:02d}" for name in names]
    return own if all(f"z/{name}" in table.column_names for name in own) else list(names)


def _step(column: str) -> int:
    return int(column.removeprefix(ADVANTAGE))
