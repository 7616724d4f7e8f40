"""Do automatic scores prefer the images that people prefer?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from likewise.analysis.paired_comparisons import wilson
from likewise.people.ballots import Ballot
from likewise.people.files import Pair


@dataclass(frozen=True)
class Judged:
    """A pair of images with the votes on it, and what a score thinks.

    Attributes:
        net: Votes for the first image minus votes for the second, over all votes: −1 … 1.
    """

    pair: Pair
    number: int
    net: float
    votes: int

    def gap(self, metric: str) -> float | None:
        """Score of the first image minus that of the second; None where one is missing."""
        first, second = self.pair.first.scores.get(metric), self.pair.second.scores.get(metric)
        return None if first is None or second is None else first - second


@dataclass(frozen=True)
class Agreement:
    """Agreement of one score with people.

    Attributes:
        share: Of the pairs on which both decide, those on which they decide alike.
        low, high: Wilson's interval of it.
        pairs: Pairs on which both decide.
        undecided: Pairs with both scores on which people are divided, or scores equal.
        tau: Kendall's τ-b of the votes' net and the difference of scores, over all pairs; None
            where it is not defined.
    """

    share: float | None
    low: float | None
    high: float | None
    pairs: int
    undecided: int
    tau: float | None


def judged_pairs(ballots: Sequence[Ballot], pairs: Sequence[Pair]) -> list[Judged]:
    """Votes on one question by pair; checks, and pairs without votes, are left out."""
    found: dict[int, list[float]] = {}
    for ballot in ballots:
        if pairs[ballot.pair].check is None:
            found.setdefault(ballot.pair, []).append(2 * ballot.outcome - 1)
    return [
        Judged(pairs[number], number, float(np.mean(votes)), len(votes))
        for number, votes in sorted(found.items())
    ]


def metric_names(pairs: Sequence[Pair]) -> list[str]:
    """Scores that both images of some pair have."""
    names: dict[str, None] = {}
    for pair in pairs:
        names |= dict.fromkeys(name for name in pair.first.scores if name in pair.second.scores)
    return list(names)


def agreement(judged: Sequence[Judged], metric: str) -> Agreement:
    """How a score agrees with the votes on these pairs; a higher score is better."""
    both = [(one.net, gap) for one in judged if (gap := one.gap(metric)) is not None]
    net, gaps = np.array(both).reshape(-1, 2).T
    decided = (net != 0) & (gaps != 0)
    alike = int((np.sign(net) == np.sign(gaps))[decided].sum())
    share = wilson(alike, int(decided.sum()))
    # A pair's order is arbitrary: in both orders, so that τ does not depend on it.
    tau = float("nan")
    if len(both):
        both_orders = np.concatenate([net, -net]), np.concatenate([gaps, -gaps])
        tau = float(stats.kendalltau(*both_orders).statistic)
    return Agreement(
        share.mean,
        share.low,
        share.high,
        int(decided.sum()),
        int((~decided).sum()),
        tau if np.isfinite(tau) else None,
    )
