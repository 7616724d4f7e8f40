"""Win rates, Bradley–Terry strengths and tests: closed forms, scipy, and simulated studies."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import optimize, stats

from likewise.analysis.paired_comparisons import (
    Comparisons,
    sign_test,
    strength_intervals,
    strengths,
    wilson,
    win_rate,
)


def simulated(
    skill: np.ndarray, raters: int, tasks: int, rng: np.random.Generator, spread: float = 0.0
) -> Comparisons:
    """Every rater compares all systems on every task; tasks and raters shift the odds."""
    one, two = np.triu_indices(len(skill), 1)
    rater, task, pair = (
        axis.ravel() for axis in np.meshgrid(range(raters), range(tasks), range(len(one)))
    )
    first, second = one[pair], two[pair]
    shift = rng.normal(0, spread, (tasks, len(one)))[task, pair]
    shift = shift + rng.normal(0, spread, (raters, len(one)))[rater, pair]
    chance = 1 / (1 + np.exp(skill[second] - skill[first] - shift))
    outcome = (rng.random(len(pair)) < chance).astype(float)
    return Comparisons(first, second, outcome, rater, task, len(skill))


@pytest.mark.parametrize(("wins", "n"), [(0, 5), (3, 10), (60, 100), (10, 10)])
def test_wilson_is_that_of_scipy(wins: int, n: int) -> None:
    ours = wilson(wins, n)
    bounds = stats.binomtest(wins, n).proportion_ci(method="wilson")
    assert (ours.low, ours.high) == pytest.approx((bounds.low, bounds.high), abs=1e-12)
    assert ours.mean == wins / n and ours.n == n


def test_no_votes_give_no_estimate() -> None:
    assert wilson(0, 0).mean is None


def test_the_sign_test_counts_units_and_drops_zeros() -> None:
    assert sign_test(np.array([1, 2, 3, 0, 5, 1])) == pytest.approx(2 / 2**5)
    assert sign_test(np.array([1, -1, 4, -2])) == 1.0
    assert sign_test(np.zeros(3)) == 1.0


def test_two_systems_differ_by_the_logit() -> None:
    votes = Comparisons(
        first=np.zeros(10, int),
        second=np.ones(10, int),
        outcome=np.array([1.0] * 6 + [0.0] * 3 + [0.5]),
        raters=np.arange(10),
        tasks=np.arange(10),
        systems=2,
    )
    found = strengths(votes.wins())[0]
    assert found[0] - found[1] == pytest.approx(math.log((6.5 + 0.5) / (3.5 + 0.5)), abs=1e-8)
    assert found.sum() == pytest.approx(0)


def test_strengths_maximise_the_likelihood() -> None:
    rng = np.random.default_rng(0)
    wins = rng.integers(1, 30, (4, 4)).astype(float)
    np.fill_diagonal(wins, 0)
    smoothed = wins + 0.5 * (1 - np.eye(4))

    def loss(free: np.ndarray) -> float:
        skill = np.append(free, -free.sum())
        return float((smoothed * np.log1p(np.exp(skill[None, :] - skill[:, None]))).sum())

    best = optimize.minimize(loss, np.zeros(3), tol=1e-12).x
    np.testing.assert_allclose(strengths(wins), np.append(best, -best.sum()), atol=1e-5)


def test_strengths_of_a_large_study_are_recovered() -> None:
    skill = np.array([0.8, 0.1, -0.2, -0.7])
    votes = simulated(skill, raters=20, tasks=100, rng=np.random.default_rng(1))
    found = strength_intervals(votes, resamples=200)
    for one, true in zip(found, skill, strict=True):
        # The standard error of a strength is 0.03 here.
        assert one.mean == pytest.approx(true, abs=0.1)
        assert one.low < one.mean < one.high and one.high - one.low < 0.4


def test_who_wins_all_votes_has_a_finite_strength() -> None:
    found = strengths(np.array([[0.0, 20.0], [0.0, 0.0]]))
    assert found[0] - found[1] == pytest.approx(math.log(20.5 / 0.5), abs=1e-8)


def test_systems_that_never_met_are_refused() -> None:
    wins = np.zeros((4, 4))
    wins[0, 1] = wins[2, 3] = 3
    with pytest.raises(ValueError, match="never compared"):
        strengths(wins)
    wins[1, 2] = 1  # now through others
    assert strengths(wins).shape == (4,)


def test_the_bootstrap_sees_what_raters_and_tasks_share() -> None:
    rng = np.random.default_rng(3)
    alone = simulated(np.array([0.3, -0.3]), 12, 30, rng)
    shared = simulated(np.array([0.3, -0.3]), 12, 30, rng, spread=1.5)
    narrow, wide = win_rate(alone, 500), win_rate(shared, 500)
    assert wide.high - wide.low > 1.5 * (narrow.high - narrow.low)


def test_one_rater_has_an_interval_over_tasks() -> None:
    votes = simulated(np.array([0.3, -0.3]), 1, 40, np.random.default_rng(4))
    found = win_rate(votes, 500)
    assert found.low < found.mean < found.high


@pytest.mark.slow
def test_intervals_cover_at_their_level() -> None:
    """1,000 studies: Wilson on independent votes, the bootstrap on raters and tasks that differ."""
    rng = np.random.default_rng(5)
    skill, studies = np.array([0.25, -0.25]), 1000
    hits = dict.fromkeys(("wilson", "win rate", "strength"), 0)
    # The win rate of a new rater on a new task: shifts are two normals of 0.7 each.
    shifts = np.random.default_rng(6).normal(0, 0.7 * math.sqrt(2), 1_000_000)
    true_rate = float((1 / (1 + np.exp(-0.5 - shifts))).mean())
    for _ in range(studies):
        n = 80
        won = rng.binomial(n, 0.6)
        one = wilson(won, n)
        hits["wilson"] += one.low <= 0.6 <= one.high
        votes = simulated(skill, 12, 25, rng, spread=0.7)
        rate = win_rate(votes, 300)
        hits["win rate"] += rate.low <= true_rate <= rate.high
        strong = strength_intervals(votes, 300)[0]
        hits["strength"] += strong.low <= math.log(true_rate / (1 - true_rate)) / 2 <= strong.high
    # Three standard errors of a share of 0.95 over 1,000 studies are 0.021. The bootstrap errs on
    # the wide side by design.
    assert 0.929 < hits["wilson"] / studies < 0.971
    assert 0.929 < hits["win rate"] / studies < 0.99
    assert 0.929 < hits["strength"] / studies < 0.99
