"""The benchmark of where each arm pays: gains, ranks, and the figure."""

from __future__ import annotations

import importlib
from collections import Counter
from pathlib import Path
from types import ModuleType

import pyarrow as pa
import pytest

from likewise.analysis.intervals import Estimate
from likewise.config import load_study
from likewise.config.study import unit_recipe

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def regimes(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("regimes")


def rewards(prompt: float, identity: float, tasks: int = 6) -> pa.Table:
    """Two samples of each task around the means; tasks differ by 1 in both rewards."""
    rows = [(task, sign) for task in range(tasks) for sign in (-0.1, 0.1)]
    return pa.table(
        {
            "iteration": [20 + task // 3 for task, _ in rows],
            "task": [f"t{task}" for task, _ in rows],
            "reward/prompt": [prompt + task + sign for task, sign in rows],
            "reward/identity": [identity + task - sign for task, sign in rows],
        }
    )


def test_gains_are_in_standard_deviations_and_paired(regimes: ModuleType) -> None:
    ours = {40: rewards(0.5, 0.5), 41: rewards(0.6, 0.5), 42: rewards(9.0, 9.0)}
    naive = {40: rewards(0.4, 0.6), 41: rewards(0.4, 0.5)}
    found = regimes.gained(ours, naive, {"prompt": 0.1, "identity": 0.2})
    # Seed 40: 0.1/0.1 − 0.1/0.2 = 0.5; seed 41: 0.2/0.1 = 2; seed 42 has no partner.
    assert found.mean == pytest.approx(1.25) and found.n == 12
    assert found.low < 1.25 < found.high


def gains(regimes: ModuleType, values: list[tuple[float, float]]) -> list[object]:
    arms = list(regimes.LABELS)
    return [
        regimes.Gain("r", arms[n % 3], predicted, Estimate(mean, mean - 0.1, mean + 0.1, 9))
        for n, (predicted, mean) in enumerate(values)
    ]


def test_ranks_decide_and_not_sizes(regimes: ModuleType) -> None:
    rising = gains(regimes, [(n / 10, 2.0**n) for n in range(8)])
    found = regimes.rank_correlation(rising)
    assert found["rho"] == pytest.approx(1.0) and found["p"] < 0.01 and found["n"] == 8
    falling = gains(regimes, [(n / 10, -(2.0**n)) for n in range(8)])
    assert regimes.rank_correlation(falling)["rho"] == pytest.approx(-1.0)
    assert regimes.rank_correlation(rising[:2]) == {"n": 2}


def test_the_figure_names_axes_arms_and_regimes(regimes: ModuleType) -> None:
    world = [regimes.Regime("r", 0.3, 1.0, -0.2, None)]
    svg = regimes.figure(world, gains(regimes, [(0.1, 0.2), (0.2, -0.1), (-0.1, 0.0)]))
    for text in ("measured TDW", "conflict", "hollow: lost", "rank correlation", "saved", ">r<"):
        assert text in svg


def test_regimes_differ_as_their_names_say() -> None:
    study = load_study("stickers-regimes")
    arms = [arm.partition(".") for arm in study.arms]
    assert set(Counter(name for name, _, _ in arms).values()) == {4} and len(arms) == 24
    for name, _, arm in arms:
        recipe = unit_recipe(study, f"{name}.{arm}", 40)
        band, _, share = name.partition("-")
        assert recipe.rewards["identity"].band == band
        assert (recipe.data.recolouring or 0.15) == (0.6 if share == "many" else 0.15)
    assert all(one.partition(".")[0] == two.partition(".")[0] for one, two in study.contrasts)
