"""Curves over runs, cells by label, and costs."""

from __future__ import annotations

import pyarrow as pa
import pytest

from likewise.analysis.curves import curve
from likewise.analysis.intervals import cluster_bootstrap, over_seeds
from likewise.analysis.overhead import Cost, Ratio, arm_cost, relative, run_cost
from likewise.analysis.robustness import cells


def rows(*values: float | None, start: int = 0) -> list[dict[str, float | None]]:
    return [{"iteration": start + i, "x": value} for i, value in enumerate(values)]


def test_a_curve_has_a_band_as_its_number_of_runs_allows() -> None:
    """Iterations 0 to 3 have 1, 2, 3 and 0 runs; 4 again one."""
    runs = [rows(1.0, 2.0, 3.0, None, 5.0), rows(6.0, 6.0, start=1), rows(9.0, start=2)]
    found = curve(runs, "x")
    three = over_seeds([3.0, 6.0, 9.0])
    assert found.iterations == [0, 1, 2, 4]
    assert found.mean == [1, 4, 6, 5]
    assert found.low == [None, 2, three.low, None]
    assert found.high == [None, 6, three.high, None]
    assert found.n == [1, 2, 3, 1]


def test_a_metric_that_no_run_has_is_an_empty_curve() -> None:
    assert curve([rows(1.0), []], "y").iterations == []


SCORES = pa.table(
    {
        "subject": ["cat", "cat", "dog", "mug", "cat", "cup"],
        "category": ["animal", "animal", "animal", "thing", "animal", "thing"],
        "complexity": [2, 1, 1, 1, 1, None],
        "kind": ["scene", "colour", "colour", "scene", "colour", "scene"],
        "dino": pa.array([0.1, 0.2, 0.6, 0.4, None, 0.8], pa.float32()),
        "evaluator": pa.array([1, 0, 1, 0, 1, None], pa.int64()),
    }
)


def test_cells_hold_the_images_with_their_labels() -> None:
    found = cells(SCORES, ["dino", "evaluator"])
    assert [(tuple(cell.labels.values()), cell.n) for cell in found] == [
        (("animal", 1), 3),
        (("animal", 2), 1),
        (("thing", 1), 1),
        (("thing", None), 1),
    ]
    assert found[0].labels == {"category": "animal", "complexity": 1}
    dino, evaluator = found[0].estimates["dino"], found[0].estimates["evaluator"]
    assert (dino.mean, dino.n) == (pytest.approx(0.4), 2)
    assert evaluator == cluster_bootstrap([0, 1, 1], ["cat", "dog", "cat"])
    assert found[1].estimates["dino"].low is None
    assert found[3].estimates["evaluator"].mean is None


def test_cells_by_kind() -> None:
    assert [(cell.labels, cell.n) for cell in cells(SCORES, ["dino"], ["kind"])] == [
        ({"kind": "colour"}, 3),
        ({"kind": "scene"}, 3),
    ]


def timings(*updates: float, memory: float | None = None) -> list[dict[str, float | None]]:
    return [
        {"iteration": i, "seconds/update": update, "peak_memory_mb": memory}
        for i, update in enumerate(updates, start=1)
    ]


def test_a_cost_leaves_out_the_first_iteration() -> None:
    run = timings(99.0, 1.0, 2.0, 6.0)
    run[0]["peak_memory_mb"], run[2]["peak_memory_mb"] = 900, 800
    run[3]["seconds/evaluation"] = 7.0
    assert run_cost(run) == Cost({"update": 2.0, "evaluation": 7.0}, 900)
    assert run_cost(run[:1]) == Cost({}, 900)
    assert run_cost([]) == Cost({}, None)


def test_costs_of_arms_and_their_ratio() -> None:
    ours = arm_cost([timings(9, 2, memory=3.0), timings(9, 4, memory=5.0), timings(9, 30)])
    assert ours == Cost({"update": 4}, 4.0)
    base = Cost({"update": 2.0, "evaluation": 1.0}, 2.0)
    assert relative(ours, base) == Ratio({"update": 2.0}, 2.0)
    assert relative(base, Cost({"update": 0.0}, None)) == Ratio({}, None)
