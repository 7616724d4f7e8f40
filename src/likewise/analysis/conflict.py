"""Where two rewards pull apart, and which of them pushes at which step.

Read from the reward tables of a run (`RunDirectory.read_rewards`) and its metrics rows. A reward's
z is its distance from the group's mean in the group's std; it is centred in every group, so numbers
over several groups still compare pictures of one prompt with each other only.

Counted are pictures that have every reward (`complete`) and some credit at stake: where a group is
flat in both rewards, z is 0 and there is nothing to agree about. These are the definitions of
`correlation`, `conflict_rate` and `quadrant/…` in `metrics.jsonl`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

ADVANTAGE = "advantage/step_"


@dataclass(frozen=True)
class Conflict:
    """How far two rewards agree on a set of pictures.

    Attributes:
        n: Number of pictures.
        correlation: Pearson's of the two z; None for fewer than two, or where one never varies.
        opposed: Share of pictures whose z have opposite signs.
        quadrants: Shares by sign (> 0 or not) of prompt and identity: "++", "+-", "-+", "--".
    """

    n: int
    correlation: float | None
    opposed: float
    quadrants: dict[str, float]


@dataclass(frozen=True)
class Pressure:
    """How hard a step of the sampling schedule is pushed, over all pictures trained there.

    Attributes:
        n: Number of pictures.
        advantage: Mean |A|.
        rewards: Mean |w_k·z_k| per reward; None where credit is no weighted sum of z (all weights
            are 0: a total such as GDPO, or a single reward).
    """

    n: int
    advantage: float
    rewards: dict[str, float] | None


def conflicts(rewards: pa.Table, prompt: str, identity: str, by: str) -> dict[Any, Conflict]:
    """Conflict of two rewards, for each value of the column `by`, in order of appearance.

    Args:
        rewards: Of one or more iterations.
        prompt, identity: Names of the rewards of each side.
        by: ``iteration``, ``prompt``, ``kind``, ``complexity``, ``subject`` or ``task``.

    Raises:
        KeyError: a column is missing.
    """
    if not rewards.num_rows:
        return {}
    table = _at_stake(rewards, [prompt, identity])
    labels, z = np.array(table[by].to_pylist()), _z(table, [prompt, identity])
    order = list(dict.fromkeys(labels.tolist()))
    return {label: _conflict(z[:, labels == label]) for label in order}


def most_conflicted(found: Mapping[Any, Conflict]) -> list[tuple[Any, Conflict]]:
    """Lowest correlation first, of equals the one with more opposite signs; unknown ones last.

    A prompt that came up once has one group of pictures, and a correlation as noisy as that: `n`
    says so.
    """

    def rank(item: tuple[Any, Conflict]) -> tuple[bool, float, float]:
        known = item[1].correlation
        return known is None, 0.0 if known is None else known, -item[1].opposed

    return sorted(found.items(), key=rank)


def pressure(
    rewards: pa.Table, metrics: Sequence[Mapping[str, Any]], names: Sequence[str]
) -> dict[int, Pressure]:
    """What each true step of the schedule is pushed by, in order of the steps.

    For a reward k at step t: the mean of |w_k(t)·z_k| over the pictures of all iterations that
    trained step t, with the weight that the iteration's metrics row holds.
    `tdw-as-released` gives each picture its own weights; its metrics hold their mean.

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
    table = _at_stake(rewards, names)
    table = table.filter(pc.is_in(table["iteration"], pa.array(list(rows), pa.int64())))
    columns = [column for column in table.column_names if column.startswith(ADVANTAGE)]
    found = {}
    for column in sorted(columns, key=_step):
        trained = table.filter(pc.is_valid(table[column]))
        if trained.num_rows:
            keys = [f"weight/{name}/step_{_step(column):02d}" for name in names]
            mine = [rows[iteration] for iteration in trained["iteration"].to_pylist()]
            weights = np.array([[row[key] for row in mine] for key in keys])
            pushes = np.abs(weights * _z(trained, names)).mean(1).tolist()
            found[_step(column)] = Pressure(
                n=trained.num_rows,
                advantage=float(np.abs(trained[column].to_numpy()).mean()),
                rewards=dict(zip(names, pushes, strict=True)) if weights.any() else None,
            )
    return found


def _step(column: str) -> int:
    return int(column.removeprefix(ADVANTAGE))


def _at_stake(rewards: pa.Table, names: Sequence[str]) -> pa.Table:
    """Rows that are complete and have a z ≠ 0."""
    kept = rewards["complete"].to_numpy() & (_z(rewards, names) != 0).any(0)
    return rewards.filter(pa.array(kept))


def _z(table: pa.Table, names: Sequence[str]) -> np.ndarray:
    """[names, pictures]"""
    return np.stack([table[f"z/{name}"].to_numpy() for name in names])


def _conflict(z: np.ndarray) -> Conflict:
    """Of z [2, n], n ≥ 1."""
    constant = (np.ptp(z, axis=1) == 0).any()
    prompt, identity = z > 0
    return Conflict(
        n=z.shape[1],
        correlation=None if constant else float(np.corrcoef(z)[0, 1]),
        opposed=float((z[0] * z[1] < 0).mean()),
        quadrants={
            "++": float((prompt & identity).mean()),
            "+-": float((prompt & ~identity).mean()),
            "-+": float((~prompt & identity).mean()),
            "--": float((~prompt & ~identity).mean()),
        },
    )
