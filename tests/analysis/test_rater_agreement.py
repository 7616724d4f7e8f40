"""Krippendorff's α against his published example, and on agreement and noise."""

from __future__ import annotations

import numpy as np
import pytest

from likewise.analysis.rater_agreement import krippendorff_alpha, preference_alpha

# The example of "Computing Krippendorff's Alpha-Reliability" (2011): four observers, twelve units.
NO = np.nan
EXAMPLE = np.array([
    [1, 2, 3, 3, 2, 1, 4, 1, 2, NO, NO, NO],
    [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, NO, 3],
    [NO, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, NO],
    [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, NO],
])  # fmt: skip


@pytest.mark.parametrize(("nominal", "published"), [(True, 0.743), (False, 0.849)])
def test_the_published_example_is_reproduced(nominal: bool, published: float) -> None:
    assert krippendorff_alpha(EXAMPLE, nominal) == pytest.approx(published, abs=5e-4)


def test_full_agreement_is_1_and_noise_is_about_0() -> None:
    rng = np.random.default_rng(0)
    same = np.repeat(rng.choice([0.0, 0.5, 1.0], (1, 200)), 5, axis=0)
    assert preference_alpha(same) == pytest.approx(1)
    noise = rng.choice([0.0, 0.5, 1.0], (5, 2000))
    assert preference_alpha(noise) == pytest.approx(0, abs=0.03)  # standard error about 0.007


def test_agreement_on_one_winner_is_still_agreement() -> None:
    """Where one side wins nearly always, plain α says chance; the order of a pair is arbitrary."""
    always = np.ones((4, 50))
    assert krippendorff_alpha(always) is None
    assert preference_alpha(always) == pytest.approx(1)


def test_the_order_of_a_pair_makes_no_difference() -> None:
    rng = np.random.default_rng(1)
    outcomes = rng.choice([0.0, 0.5, 1.0, 1.0], (4, 60))
    turned = outcomes.copy()
    turned[:, ::2] = 1 - turned[:, ::2]
    assert preference_alpha(turned) == pytest.approx(preference_alpha(outcomes))


def test_single_votes_say_nothing() -> None:
    assert krippendorff_alpha(np.array([[1.0, NO], [NO, 0.0]])) is None
