"""Intervals cover, p-values are uniform where nothing is there, and hand-made cases come out."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from likewise.analysis.intervals import (
    Estimate,
    cluster_bootstrap,
    over_seeds,
    ratio_difference,
    ratio_interval,
    sign_flip,
    sums_ratio,
)

UNKNOWN = Estimate(None, None, None, 0)


def a_sample(rng: np.random.Generator, clusters: int) -> tuple[np.ndarray, np.ndarray]:
    """Values around 0 with as much spread between clusters of 5 to 14 as inside them."""
    sizes = rng.integers(5, 15, size=clusters)
    names = np.repeat(np.arange(clusters), sizes)
    return rng.normal(size=clusters)[names] + rng.normal(size=len(names)), names


def coverage(estimates: list[Estimate]) -> float:
    """Share whose interval holds 0."""
    return float(np.mean([e.low <= 0 <= e.high for e in estimates]))  # type: ignore[operator]


@pytest.mark.parametrize("clusters", [8, 30])
def test_a_bootstrap_over_clusters_covers_the_mean(clusters: int) -> None:
    rng = np.random.default_rng(1)
    samples = [a_sample(rng, clusters) for _ in range(500)]
    found = [cluster_bootstrap(values, names, 1000) for values, names in samples]
    assert 0.92 <= coverage(found) <= 0.98


def test_an_interval_that_ignores_clusters_would_not_cover() -> None:
    """The test above can fail: there is much to lose."""
    rng = np.random.default_rng(1)
    samples = [a_sample(rng, 30)[0] for _ in range(60)]
    found = [cluster_bootstrap(values, np.arange(len(values)), 300) for values in samples]
    assert coverage(found) < 0.75


@pytest.mark.parametrize("seeds", [3, 5])
def test_students_interval_covers_the_mean(seeds: int) -> None:
    rng = np.random.default_rng(2)
    found = [over_seeds(rng.normal(size=seeds)) for _ in range(500)]
    assert 0.92 <= coverage(found) <= 0.98


def test_students_interval_by_hand() -> None:
    """Mean 2, std 1, t(2) = 4.3027."""
    found = over_seeds([1.0, None, 2.0, 3.0])
    assert (found.mean, found.n) == (2, 3)
    assert found.low == pytest.approx(2 - 4.3027 / np.sqrt(3), abs=1e-4)
    assert found.high == pytest.approx(2 + 4.3027 / np.sqrt(3), abs=1e-4)


def test_a_bootstrap_by_hand() -> None:
    """Two subjects: a third of the draws has both, the rest one alone; every value counts once."""
    found = cluster_bootstrap([1.0, 2.0, 6.0], ["a", "a", "b"])
    assert found == Estimate(3.0, 1.5, 6.0, 3)
    assert cluster_bootstrap([0.5] * 4, ["a", "a", "b", "c"]) == Estimate(0.5, 0.5, 0.5, 4)


def test_a_bootstrap_is_about_students_interval_of_means() -> None:
    rng = np.random.default_rng(0)
    effects = rng.normal(size=20)
    found = cluster_bootstrap(np.repeat(effects, 10), np.repeat(np.arange(20), 10))
    wanted = over_seeds(effects)
    assert found.mean == pytest.approx(wanted.mean)
    assert found.low == pytest.approx(wanted.low, abs=0.1)
    assert found.high == pytest.approx(wanted.high, abs=0.1)


def test_unknown_values_are_left_out_with_their_cluster() -> None:
    values = [1.0, None, 2.0, float("nan"), 4.0]
    found = cluster_bootstrap(values, ["a", "a", "b", "c", "b"])
    assert found == cluster_bootstrap([1.0, 2.0, 4.0], ["a", "b", "b"])
    assert cluster_bootstrap(values, ["a", "b", "a", "b", "a"]).low is None


def test_too_few_values_have_no_interval() -> None:
    assert cluster_bootstrap([1.0, 3.0], ["a", "a"]) == Estimate(2.0, None, None, 2)
    assert over_seeds([1.0, None]) == Estimate(1.0, None, None, 1)
    assert cluster_bootstrap([None], ["a"]) == over_seeds([]) == UNKNOWN


def test_equal_values_give_equal_intervals() -> None:
    values, names = a_sample(np.random.default_rng(3), 10)
    assert cluster_bootstrap(values, names) == cluster_bootstrap(values, names)


def test_every_value_needs_a_cluster() -> None:
    with pytest.raises(ValueError, match="one each"):
        cluster_bootstrap([1.0, 2.0], ["a"])


@pytest.mark.parametrize(("n", "times"), [(10, 200), (14, 50)])
def test_sign_flips_are_uniform_where_there_is_nothing(n: int, times: int) -> None:
    """Exact for 10 values, drawn for 14."""
    rng = np.random.default_rng(4)
    found = [sign_flip(rng.standard_t(3, size=n)) for _ in range(times)]
    assert stats.kstest(found, "uniform").pvalue > 0.05


def test_sign_flips_by_hand() -> None:
    """Of the 8 signs of (1, 2, 4), two have a mean at least as large as (−1, 2, 4): p = 4/8."""
    assert sign_flip([1.0, 2.0, 4.0]) == pytest.approx(2 / 8)
    assert sign_flip([-1.0, 2.0, 4.0]) == pytest.approx(4 / 8)
    assert sign_flip([-1.0, None, -2.0, -4.0]) == pytest.approx(2 / 8)
    assert sign_flip([1.0, -1.0]) == sign_flip([0.0, 0.0]) == sign_flip([3.0]) == sign_flip([]) == 1


def test_sign_flips_see_an_effect_as_far_as_their_number_allows() -> None:
    assert sign_flip([9.0, 9.1, 9.2, 9.3, 9.4]) == pytest.approx(2 / 32)
    rng = np.random.default_rng(5)
    assert sign_flip(rng.normal(1.0, 1.0, size=30)) < 0.001
    assert sign_flip(np.ones(30)) == pytest.approx(2 / 10000)


def test_a_ratio_of_sums_has_the_interval_of_a_mean() -> None:
    values, clusters = np.array([0.2, 0.4, 0.9, 0.1, 0.5]), np.array([0, 0, 1, 1, 2])
    parts, wholes = np.bincount(clusters, weights=values), np.bincount(clusters)
    mean = cluster_bootstrap(values, clusters)
    assert ratio_interval(parts, wholes) == (mean.low, mean.high)
    assert sums_ratio(parts, wholes) == pytest.approx(mean.mean)
    assert ratio_interval(parts, 0 * wholes) == (0, 0)  # what never varies


def test_a_difference_of_ratios_is_of_the_same_clusters() -> None:
    rng = np.random.default_rng(3)
    wholes = rng.uniform(1, 2, size=20)
    common = rng.normal(size=20) * wholes  # what differs between clusters, but not between ratios
    first, second = (common + 0.5 * wholes, wholes), (common, wholes)
    found = ratio_difference(first, second)
    assert found.mean == pytest.approx(0.5) and found.n == 20
    assert (found.low, found.high) == pytest.approx((0.5, 0.5))
    alone = ratio_interval(*first)
    assert alone[1] - alone[0] > 0.3
    assert ratio_difference((common[:1], wholes[:1]), (common[:1], wholes[:1])).low is None


def test_an_interval_of_a_difference_covers_it() -> None:
    rng = np.random.default_rng(4)
    found = []
    for _ in range(300):
        wholes = rng.uniform(1, 2, size=(2, 15))
        parts = rng.normal(size=(2, 15))
        found.append(ratio_difference((parts[0], wholes[0]), (parts[1], wholes[1]), 500))
    assert 0.91 <= coverage(found) <= 0.99
