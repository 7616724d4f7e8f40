"""How many votes a study needs to see a preference of a given size."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import stats

LEVEL = 0.05  # of the test, two-sided
POWER = 0.8
MANY = 2000
LIKENESS = 0.3  # of votes on one pair, where no pilot says more


@dataclass(frozen=True)
class Advice:
    """What a study needs, or can do.

    Attributes:
        votes: Independent votes that would be needed.
        pairs: Pairs of images needed with `raters_per_pair` votes each.
    """

    share: float
    power: float
    raters_per_pair: int
    likeness: float
    votes: int
    pairs: int


def advise(
    share: float, raters_per_pair: int, power: float = POWER, likeness: float = LIKENESS
) -> Advice:
    """Pairs needed to see that a system is preferred in `share` of the votes.

    Votes on one pair resemble each other: R of them are worth R / (1 + (R − 1) likeness)
    independent ones (Kish's design effect). What raters have in common is not in it.

    Args:
        share: Of decided votes, as 0.6 for 60:40; not 0.5.
        power: Probability to see it, by an exact two-sided test at 5 %.
        likeness: Correlation of two votes on one pair, 0 … 1: α of a pilot.

    Raises:
        ValueError: a number is outside its range.
    """
    if not 0 < share < 1 or math.isclose(share, 0.5):
        raise ValueError(f"a share of {share} is none to be seen: 0 < share < 1, and not 0.5")
    if not (0 < power < 1 and 0 <= likeness <= 1 and raters_per_pair >= 1):
        raise ValueError("wanted 0 < power < 1, 0 <= likeness <= 1, and raters per pair >= 1")
    votes = votes_needed(share, power)
    worth = raters_per_pair / (1 + (raters_per_pair - 1) * likeness)
    return Advice(share, power, raters_per_pair, likeness, votes, math.ceil(votes / worth))


def votes_needed(share: float, power: float) -> int:
    """The least number of independent votes from which on the exact power stays as large.

    The power of an exact test rises in a saw-tooth; hence "from which on". Beyond `MANY` votes the
    normal approximation, which is then within 1 % of it.
    """
    above = stats.norm.ppf(1 - LEVEL / 2) * 0.5
    above += stats.norm.ppf(power) * math.sqrt(share * (1 - share))
    near = (above / (share - 0.5)) ** 2
    if near > MANY:
        return math.ceil(near)
    low = [n for n in range(1, int(near * 1.5) + 60) if exact_power(n, share) < power]
    return (low[-1] if low else 0) + 1


def exact_power(votes: int, share: float) -> float:
    """Probability that the two-sided exact sign test at 5 % rejects 50:50 after n votes."""
    wins = np.arange(votes + 1)
    tail = stats.binom.cdf(np.minimum(wins, votes - wins), votes, 0.5)
    rejected = 2 * tail <= LEVEL
    return float(stats.binom.pmf(wins[rejected], votes, share).sum())
