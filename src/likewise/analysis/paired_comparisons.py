"""Which of two images people prefer: win rates, Bradley–Terry strengths, an exact test.

A tie is half a win for either side. Votes of one rater, and votes on one task, are not independent:
the bootstrap here draws whole raters and whole tasks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import stats

from likewise.analysis.intervals import CONFIDENCE, Estimate, percentile_level

RESAMPLES = 2000
STEPS, TOLERANCE = 2000, 1e-9  # of the iteration for strengths


@dataclass(frozen=True)
class Comparisons:
    """V votes on K systems.

    Attributes:
        first, second: Which systems were compared, int [V], each in 0 … K − 1.
        outcome: float [V]: 1 where `first` was preferred, 0 where `second` was, 0.5 for a tie.
        raters, tasks: Who voted, and on which task, int [V].
        systems: K.
    """

    first: np.ndarray
    second: np.ndarray
    outcome: np.ndarray
    raters: np.ndarray
    tasks: np.ndarray
    systems: int

    def wins(self, weights: np.ndarray | None = None) -> np.ndarray:
        """How often each system won against each, ties as halves: float [K, K].

        Args:
            weights: Of the votes, float [R, V]; then the result is [R, K, K].
        """
        weights = np.ones((1, len(self.outcome))) if weights is None else weights
        found = np.zeros((len(weights), self.systems**2))
        for winner, loser, won in (
            (self.first, self.second, self.outcome),
            (self.second, self.first, 1 - self.outcome),
        ):
            cells = winner * self.systems + loser
            votes = np.zeros((len(cells), self.systems**2))
            votes[np.arange(len(cells)), cells] = won
            found += weights @ votes
        return found.reshape(-1, self.systems, self.systems)


def wilson(wins: float, n: float, confidence: float = CONFIDENCE) -> Estimate:
    """Share of wins with Wilson's score interval, which takes votes to be independent.

    Ties may count as half a win; their variance is less than that of whole ones, so the interval is
    then somewhat too wide. No estimate for n = 0.
    """
    if n <= 0:
        return Estimate(None, None, None, 0)
    z = float(stats.norm.ppf((1 + confidence) / 2))
    share = wins / n
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    reach = z / (1 + z * z / n) * np.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    low, high = max(0.0, float(centre - reach)), min(1.0, float(centre + reach))
    return Estimate(float(share), low, high, round(n))


def sign_test(net: np.ndarray) -> float:
    """Two-sided exact p that positive and negative values are equally likely; zeros say nothing.

    Args:
        net: One value per independent unit, as the wins minus losses of a task or of a rater.
    """
    above, below = int((net > 0).sum()), int((net < 0).sum())
    return float(stats.binomtest(above, above + below).pvalue) if above + below else 1.0


def strengths(wins: np.ndarray) -> np.ndarray:
    """Bradley–Terry strengths: system i beats j with probability 1 / (1 + exp(sⱼ − sᵢ)).

    Hunter's MM iteration (Annals of Statistics 32, 2004). Half a win each way is added for every
    two systems that were compared, so that who won every vote gets a finite strength; for two
    systems the difference is then log((w + ½) / (l + ½)), the least biased logit (Haldane,
    Anscombe).

    Args:
        wins: float [..., K, K], as `Comparisons.wins`.

    Returns:
        float [..., K] with mean 0.

    Raises:
        ValueError: some systems were compared neither directly nor through others.
    """
    met = (wins + np.swapaxes(wins, -1, -2)) > 0
    _check_connected(met.reshape(-1, *met.shape[-2:]).any(0))
    wins = wins + 0.5 * met.reshape(-1, *met.shape[-2:]).any(0)
    games, won = wins + np.swapaxes(wins, -1, -2), wins.sum(-1)
    skill = np.ones_like(won)
    for _ in range(STEPS):
        old = skill
        skill = won / (games / (old[..., :, None] + old[..., None, :])).sum(-1)
        skill = skill / np.exp(np.log(skill).mean(-1, keepdims=True))
        if np.abs(skill / old - 1).max() < TOLERANCE:
            break
    return np.log(skill)


def strength_intervals(votes: Comparisons, resamples: int = RESAMPLES) -> list[Estimate]:
    """Strengths of all systems with 95 % intervals by `two_way_interval`."""

    def of(weights: np.ndarray) -> np.ndarray:
        return strengths(votes.wins(weights))

    known = strengths(votes.wins())[0]
    low, high = two_way_interval(of, votes, resamples)
    counts = [int(((votes.first == k) | (votes.second == k)).sum()) for k in range(votes.systems)]
    return [
        Estimate(float(known[k]), float(low[k]), float(high[k]), counts[k])
        for k in range(votes.systems)
    ]


def win_rate(votes: Comparisons, resamples: int = RESAMPLES) -> Estimate:
    """Share of votes that `first` won, with a 95 % interval by `two_way_interval`."""
    if not len(votes.outcome):
        return Estimate(None, None, None, 0)
    share = float(votes.outcome.mean())

    def of(weights: np.ndarray) -> np.ndarray:
        total = weights.sum(-1)
        won = np.divide(weights @ votes.outcome, total, np.full_like(total, share), where=total > 0)
        return won[:, None]

    low, high = two_way_interval(of, votes, resamples)
    return Estimate(share, float(low[0]), float(high[0]), len(votes.outcome))


def two_way_interval(
    statistic: Callable[[np.ndarray], np.ndarray], votes: Comparisons, resamples: int
) -> tuple[np.ndarray, np.ndarray]:
    """95 % intervals by drawing raters and tasks at once, both with replacement.

    A vote counts as often as its rater was drawn, times as often as its task was (the pigeonhole
    bootstrap: Owen, Annals of Applied Statistics 1, 2007). It errs on the wide side. Where there is
    one rater or one task only, that side is not drawn. The level of the percentiles is widened for
    few raters or tasks, as in `intervals.cluster_bootstrap`.

    Args:
        statistic: Weights of votes, float [R, V] → values [R, S].

    Returns:
        low and high, each [S].
    """
    rng = np.random.default_rng(0)
    counts, weights = [], np.ones((resamples, len(votes.outcome)))
    for names in (votes.raters, votes.tasks):
        _, index = np.unique(names, return_inverse=True)
        total = int(index.max()) + 1
        if total > 1:
            drawn = rng.multinomial(total, np.full(total, 1 / total), size=resamples)
            weights *= drawn[:, index]
            counts.append(total)
    values = statistic(weights)
    level = percentile_level(min(counts)) if counts else CONFIDENCE
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return low, high


def _check_connected(met: np.ndarray) -> None:
    reached = np.linalg.matrix_power(met.astype(np.int64) + np.eye(len(met), dtype=np.int64),
                                     len(met)) > 0  # fmt: skip
    if not reached.all():
        raise ValueError("some systems were never compared, not even through others")
