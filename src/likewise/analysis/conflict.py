"""Where two rewards pull apart.

Read from the reward tables of a run (`RunDirectory.read_rewards`). A reward's z is its distance
from the group's mean in the group's std; it is centred in every group, so numbers over several
groups still compare images of one prompt with each other only.

Counted are samples that have credit (`complete`), both rewards, and something at stake: where a
group is flat in both rewards, z is 0 and there is nothing to agree about. These are the definitions
of `correlation`, `conflict_rate` and `quadrant/…` in `metrics.jsonl`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc


@dataclass(frozen=True)
class Conflict:
    """How far two rewards agree on a set of images.

    Attributes:
        n: Number of images.
        correlation: Pearson's of the two z; None for fewer than two, or where one never varies.
        opposed: Share of images whose z have opposite signs.
        quadrants: Shares by sign (> 0 or not) of prompt and identity: "++", "+-", "-+", "--".
    """

    n: int
    correlation: float | None
    opposed: float
    quadrants: dict[str, float]


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
    table = having_both(at_stake(rewards, [prompt, identity]), prompt, identity)
    labels, z = np.array(table[by].to_pylist()), z_scores(table, [prompt, identity])
    order = list(dict.fromkeys(labels.tolist()))
    return {label: _conflict(z[:, labels == label]) for label in order}


def having_both(rewards: pa.Table, prompt: str, identity: str) -> pa.Table:
    """Rows with both rewards; a rule that trains on one gives credit to samples without the other.

    Raises:
        KeyError: a column is missing.
    """
    known = [rewards[f"reward/{name}"].is_valid() for name in (prompt, identity)]
    return rewards.filter(pc.and_(*known))


def most_conflicted(found: Mapping[Any, Conflict]) -> list[tuple[Any, Conflict]]:
    """Lowest correlation first, of equals the one with more opposite signs; unknown ones last.

    A prompt that came up once has one group of images, and a correlation as noisy as that: `n`
    says so.
    """

    def rank(item: tuple[Any, Conflict]) -> tuple[bool, float, float]:
        known = item[1].correlation
        return known is None, 0.0 if known is None else known, -item[1].opposed

    return sorted(found.items(), key=rank)


def _conflict(z: np.ndarray) -> Conflict:
    """Conflict of the z [2, n] of two rewards, n ≥ 1."""
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


def at_stake(rewards: pa.Table, names: Sequence[str]) -> pa.Table:
    """Rows that have every credited reward and a z ≠ 0 in one of `names`."""
    kept = rewards["complete"].to_numpy() & (z_scores(rewards, names) != 0).any(0)
    return rewards.filter(pa.array(kept))


def z_scores(table: pa.Table, names: Sequence[str]) -> np.ndarray:
    """How far images are from their group's mean, in its std: float64 [names, images]."""
    return np.stack([table[f"z/{name}"].to_numpy() for name in names])
