"""The benchmark of what credit costs runs, and compares like with like."""

from __future__ import annotations

import importlib
import math
import re
from itertools import chain
from pathlib import Path
from types import ModuleType

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
TINY = [
    *("rollout.tasks=1", "rollout.group_size=2", "rollout.num_steps=3"),
    *("run.device=cpu", "run.threads=1"),
]


@pytest.fixture
def credit_cost(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("credit_cost")


def test_time_memory_and_credit_are_reported(
    credit_cost: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    credit_cost.main(["--pairs", "2", *TINY])
    said = capsys.readouterr().out
    number = r"(\d\.\d{4})"
    for what in ("time", "peak memory"):
        row = re.search(
            rf"{what} of an iteration: {number} of naive's \({number}-{number}, 2", said
        )
        assert row is not None, said
        middle, low, high = map(float, row.groups())
        assert 0 < low <= middle <= high
    assert re.search(r"credit alone: \d+\.\d\d ms, which adds [+-]\d+\.\d{4}% to", said)


def test_both_arms_draw_the_same_from_the_same_weights(
    credit_cost: ModuleType, tmp_path: Path
) -> None:
    naive, method = credit_cost.arms(tmp_path, TINY)
    kinds = [
        (one.recipe.credit.shaping.kind, one.recipe.credit.time_weights.kind)
        for one in (naive, method)
    ]
    assert kinds == [("none", "constant"), ("sars", "tdw")]
    assert naive.recipe.rollout == method.recipe.rollout and naive.parts is method.parts
    drawn = []

    def watch(rollouts: object, draw: object) -> None:
        def watched(*arguments: object) -> object:
            found = draw(*arguments)
            drawn.append([one.latents for one in chain.from_iterable(found[0])])
            return found

        rollouts.draw = watched

    for session in (naive, method):
        watch(session.rollouts, session.rollouts.draw)
    costs = credit_cost.compare(naive, method, 1)
    first, second, third, fourth = drawn
    assert all((a == b).all() for a, b in zip(first, second, strict=True))
    assert all((a == b).all() for a, b in zip(third, fourth, strict=True))
    assert len(costs) == 1 and all(0 < one.credit < one.seconds for one in costs[0])


def test_the_interval_of_a_median_is_of_order_statistics(credit_cost: ModuleType) -> None:
    """P(x_(k) ≤ median ≤ x_(n+1−k)) = 1 − 2·Σ_{j<k} C(n, j)/2ⁿ: for n = 15 and k = 4, 96.5 %."""
    values = [float(n) for n in range(15, 0, -1)]
    assert credit_cost.median_interval(values) == (4.0, 12.0)
    for n, k in ((6, 1), (15, 4), (21, 6)):
        holds = [1 - 2 * sum(math.comb(n, j) for j in range(m)) / 2**n for m in (k, k + 1)]
        assert holds[0] >= 0.95 > holds[1]
        assert credit_cost.median_interval(list(range(1, n + 1))) == (k, n + 1 - k)
    assert credit_cost.median_interval([3, 1, 2]) == (1, 3)  # too few for an interval
