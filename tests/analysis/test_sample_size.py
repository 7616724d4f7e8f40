"""How many votes a study needs, against a simulation and the normal approximation."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from likewise.analysis.sample_size import advise, exact_power, votes_needed


def test_the_power_is_that_of_scipys_test() -> None:
    by_hand = sum(
        stats.binom.pmf(k, 30, 0.7) for k in range(31) if stats.binomtest(k, 30).pvalue <= 0.05
    )
    assert exact_power(30, 0.7) == pytest.approx(by_hand)


def test_60_to_40_takes_about_200_votes() -> None:
    votes = votes_needed(0.6, 0.8)
    assert 194 <= votes <= 215  # 194 by the normal approximation, which is never above the exact
    assert votes_needed(0.4, 0.8) == votes
    assert all(exact_power(n, 0.6) >= 0.8 for n in range(votes, votes + 30))
    assert exact_power(votes - 1, 0.6) < 0.8


def test_more_raters_per_pair_take_fewer_pairs_but_more_votes() -> None:
    alone, five = advise(0.6, 1), advise(0.6, 5)
    assert alone.pairs == alone.votes == five.votes
    assert five.pairs < alone.pairs < five.pairs * 5
    assert advise(0.6, 5, likeness=1.0).pairs == alone.pairs
    assert advise(0.6, 5, likeness=0.0).pairs == np.ceil(alone.votes / 5)


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_shares_that_cannot_be_seen_are_refused(share: float) -> None:
    with pytest.raises(ValueError, match="share"):
        advise(share, 3)


def test_small_effects_are_quick_to_advise_on() -> None:
    assert votes_needed(0.51, 0.8) == pytest.approx(19_600, rel=0.01)
