"""Paired differences of two arms, with everything that can be missing."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from likewise.analysis.intervals import cluster_bootstrap, over_seeds, sign_flip
from likewise.analysis.pairing import paired

Row = tuple[str, str, int, float | None]


def a_table(rows: list[Row], metric: str = "score") -> pa.Table:
    subject, task, seed, value = zip(*rows, strict=True)
    values = pa.array(value, pa.float32())
    return pa.table({"task": task, "subject": subject, "seed": seed, metric: values})


def test_a_difference_by_hand() -> None:
    """Differences: seed 0: a1 +1, a2 +2, b1 +3; seed 1: a1 +3, a2 +4, b1 +5."""
    ours = [("a", "a1", 0, 2.0), ("a", "a2", 0, 4.0), ("b", "b1", 0, 8.0)]
    ours += [("a", "a1", 1, 4.0), ("a", "a2", 1, 5.0), ("b", "b1", 1, 6.0)]
    base = [("b", "b1", 1, 1.0), ("a", "a2", 1, 1.0), ("a", "a1", 1, 1.0)]
    base += [("a", "a1", 0, 1.0), ("a", "a2", 0, 2.0), ("b", "b1", 0, 5.0)]
    found = paired(a_table(ours), a_table(base), "score")
    assert found.mean == 3
    assert found.over_seeds == over_seeds([2.0, 4.0])
    assert found.over_subjects == cluster_bootstrap([2.0, 3.0, 4.0], ["a", "a", "b"])
    assert (found.n_subjects, found.n_seeds, found.pairs, found.left_out) == (2, 2, 6, 0)
    assert found.p_subjects == sign_flip([5.0, 4.0]) == 0.5
    assert found.p_seeds == sign_flip([2.0, 4.0]) == 0.5


def test_what_one_side_lacks_is_left_out_and_counted() -> None:
    """Left out: a missing row on each side, null or NaN on either, null on both."""
    ours = [("a", "a1", 0, 2.0), ("a", "a2", 0, 9.0), ("b", "b1", 0, None), ("b", "b2", 0, 9.0)]
    ours += [("c", "c1", 0, None), ("c", "c2", 0, float("nan")), ("d", "d1", 0, 6.0)]
    base = [("a", "a1", 0, 1.0), ("a", "a1", 1, 5.0), ("b", "b1", 0, 1.0), ("b", "b2", 0, None)]
    base += [("c", "c1", 0, None), ("c", "c2", 0, 1.0), ("d", "d1", 0, 3.0)]
    found = paired(a_table(ours), a_table(base), "score")
    assert (found.pairs, found.left_out) == (2, 6)
    assert (found.n_subjects, found.n_seeds) == (2, 1)
    assert (found.mean, found.over_seeds.low) == (2.0, None)


def test_images_of_a_task_are_averaged_over_what_is_known() -> None:
    ours = [("a", "a1", 0, 1.0), ("a", "a1", 0, 3.0), ("a", "a1", 0, None), ("b", "b1", 0, 1.0)]
    base = [("a", "a1", 0, 1.0), ("b", "b1", 0, 1.0)]
    found = paired(a_table(ours), a_table(base), "score")
    assert (found.mean, found.pairs, found.left_out) == (0.5, 2, 0)


def test_nothing_in_common_is_unknown() -> None:
    ours, base = a_table([("a", "a1", 0, 1.0)]), a_table([("a", "a1", 1, 1.0)])
    found = paired(ours, base, "score")
    assert (found.mean, found.over_seeds.mean, found.pairs, found.left_out) == (None, None, 0, 2)
    assert found.p_subjects == found.p_seeds == 1


def test_pairing_removes_what_tasks_have_in_common() -> None:
    """Subjects and tasks differ far more than the arms do; a paired interval does not mind."""
    rng = np.random.default_rng(0)
    tasks = [(f"s{i}", f"s{i}-{j}") for i in range(30) for j in range(4)]
    level = {task: rng.normal() for task in tasks}

    def arm(effect: float) -> pa.Table:
        return a_table(
            [
                (*task, seed, level[task] + effect + 0.1 * rng.normal())
                for seed in range(5)
                for task in tasks
            ]
        )

    ours, base = arm(0.05), arm(0.0)
    found = paired(ours, base, "score")
    for estimate in (found.over_subjects, found.over_seeds):
        assert estimate.low is not None and estimate.high is not None
        assert 0 < estimate.low < 0.05 < estimate.high
    assert found.p_subjects < 0.01
    assert found.p_seeds == pytest.approx(2 / 32)
    assert paired(base, ours, "score").mean == pytest.approx(-found.mean)  # type: ignore[operator]


def test_a_missing_column_is_named() -> None:
    table = a_table([("a", "a1", 0, 1.0)])
    with pytest.raises(KeyError, match="dino"):
        paired(table, table, "dino")
