"""How many seeds show a difference: closed forms against simulations."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from likewise.analysis.seeds_needed import Spread, power_of, seeds_needed, spread_of

SUBJECTS = np.repeat(np.arange(30), 10)


def drawn(spread: Spread, seeds: int, rng: np.random.Generator, mean: float = 0.0) -> np.ndarray:
    """Differences [seeds, 300], with effects of tasks as large as those of images."""
    tasks = rng.normal(0, spread.image, len(SUBJECTS))
    seed = rng.normal(0, spread.seed, (seeds, 1))
    subject = rng.normal(0, spread.subject, (seeds, 30))[:, SUBJECTS]
    image = rng.normal(0, spread.image, (seeds, len(SUBJECTS)))
    return mean + tasks - tasks.mean() + seed + subject + image


@pytest.mark.parametrize("truth", [Spread(0.01, 0.03, 0.2), Spread(0.02, 0.0, 0.15)])
def test_components_are_found_again(truth: Spread) -> None:
    rng = np.random.default_rng(0)
    found = [spread_of(drawn(truth, 5, rng), SUBJECTS) for _ in range(150)]
    assert np.mean([one.image for one in found]) == pytest.approx(truth.image, rel=0.02)
    of_mean = [one.of_mean(300, 30) ** 2 for one in found]
    assert np.mean(of_mean) == pytest.approx(truth.of_mean(300, 30) ** 2, rel=0.15)
    # Squares, as components are unbiased but for the cut at 0.
    subject = np.sqrt(np.mean([one.subject**2 for one in found]))
    assert subject == pytest.approx(truth.subject, abs=0.015)


def test_power_is_that_of_a_simulation() -> None:
    rng, truth, seeds = np.random.default_rng(1), Spread(0.004, 0.0, 0.1), 8
    spread = truth.of_mean(300, 30)
    means = np.stack([drawn(truth, seeds, rng, 0.008).mean(1) for _ in range(1500)])
    seen = np.mean(stats.ttest_1samp(means, 0, axis=1).pvalue < 0.05)
    assert seen == pytest.approx(power_of(0.008, spread, seeds), abs=0.035)


def test_power_is_scipys_where_that_holds() -> None:
    for seeds, shift in ((3, 1.0), (10, 3.0), (40, 2.5)):
        bound = stats.t.ppf(0.975, seeds - 1)
        exact = stats.nct.sf(bound, seeds - 1, shift) + stats.nct.cdf(-bound, seeds - 1, shift)
        assert power_of(shift, np.sqrt(seeds), seeds) == pytest.approx(exact, abs=1e-3)
    assert power_of(50.0, 1.0, 3) == pytest.approx(1.0)


def test_the_number_of_seeds_is_the_least() -> None:
    for difference in (0.005, 0.01, 0.02):
        seeds = seeds_needed(difference, 0.0083)
        assert power_of(difference, 0.0083, seeds) >= 0.8
        assert seeds == 2 or power_of(difference, 0.0083, seeds - 1) < 0.8
    assert [seeds_needed(one, 0.0083) for one in (0.005, 0.01, 0.02)] == [24, 8, 4]
    assert seeds_needed(-0.01, 0.0083) == 8
    assert seeds_needed(0.001, 0.1) is None
    assert seeds_needed(0.1, 0.0) == 2


def test_what_cannot_be_told_is_refused() -> None:
    with pytest.raises(ValueError, match="difference of 0"):
        seeds_needed(0.0, 0.1)
    with pytest.raises(ValueError, match="two seeds"):
        spread_of(np.zeros((1, 4)), np.array([0, 0, 1, 1]))
    with pytest.raises(ValueError, match="two tasks for each"):
        spread_of(np.zeros((2, 2)), np.array([0, 1]))
