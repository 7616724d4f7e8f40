"""How many paired seeds show a difference between two arms, from how far differences spread.

A difference of one seed on one task is  effect of the task + S[seed] + G[seed, subject] + e : tasks
are the same for all seeds, so their effect does not count; the rest is random, with standard
deviations `Spread`. The mean over n tasks about c subjects then spreads over seeds by

    √(seed² + subject²/c + image²/n)
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import stats

LEVEL = 0.05  # of the test, two-sided: Student's, of one difference per seed
POWER = 0.8
MOST = 1000
_QUANTILES = (np.arange(2000) + 0.5) / 2000


@dataclass(frozen=True)
class Spread:
    """Standard deviations of paired differences, in units of the metric.

    Attributes:
        seed: Of a seed as a whole: more tasks do not help.
        subject: Of a subject within a seed: more subjects help.
        image: Of a single image: more tasks help.
    """

    seed: float
    subject: float
    image: float

    def of_mean(self, tasks: int, subjects: int) -> float:
        """Of one seed's mean over so many tasks about so many subjects."""
        return math.sqrt(self.seed**2 + self.subject**2 / subjects + self.image**2 / tasks)


def spread_of(differences: np.ndarray, subjects: np.ndarray) -> Spread:
    """Components of variance, by the method of moments; those below 0 become 0.

    Args:
        differences: [s, n], s ≥ 2 seeds on the same n tasks.
        subjects: Of the tasks [n], two or more, with about as many tasks each, more than one.

    Raises:
        ValueError: too few seeds, subjects or tasks.
    """
    seeds, tasks = differences.shape
    names, index = np.unique(subjects, return_inverse=True)
    each = tasks / len(names)
    if seeds < 2 or len(names) < 2 or tasks <= len(names):
        raise ValueError("wanted two seeds, two subjects and two tasks for each, or more")
    apart = differences - differences.mean(0)  # without the effect of tasks
    by_seed = apart.mean(1, keepdims=True)
    sums = np.stack([np.bincount(index, weights=row) for row in apart])
    by_subject = sums / np.bincount(index)
    image = ((apart - by_subject[:, index]) ** 2).sum() / ((seeds - 1) * (tasks - len(names)))
    subject = each * ((by_subject - by_seed) ** 2).sum() / ((seeds - 1) * (len(names) - 1))
    seed = tasks * (by_seed**2).sum() / (seeds - 1)
    return Spread(
        math.sqrt(max(0.0, seed - subject) / tasks),
        math.sqrt(max(0.0, subject - image) / each),
        math.sqrt(image),
    )


def power_of(difference: float, spread: float, seeds: int) -> float:
    """Probability that Student's test over `seeds` ≥ 2 sees a difference at 5 %, two-sided.

    Args:
        spread: Standard deviation of one seed's difference, > 0.
    """
    freedom = seeds - 1
    shift = abs(difference) / spread * math.sqrt(seeds)
    # Over the std that the seeds happen to show; scipy's noncentral t fails for large shifts.
    shown = np.sqrt(stats.chi2.ppf(_QUANTILES, freedom) / freedom)
    bound = stats.t.ppf(1 - LEVEL / 2, freedom) * shown
    return float(np.mean(stats.norm.cdf(shift - bound) + stats.norm.cdf(-shift - bound)))


def seeds_needed(difference: float, spread: float, power: float = POWER) -> int | None:
    """Least number of seeds with so much power, 2 or more; None: more than `MOST`.

    Raises:
        ValueError: a difference of 0, which no number shows.
    """
    if difference == 0:
        raise ValueError("no number of seeds shows a difference of 0")
    low, high = 1, 2
    while power_of(difference, max(spread, 1e-12), high) < power:
        low, high = high, 2 * high
        if low > MOST:
            return None
    while high - low > 1:  # power rises with seeds
        middle = (low + high) // 2
        enough = power_of(difference, max(spread, 1e-12), middle) >= power
        low, high = (low, middle) if enough else (middle, high)
    return high if high <= MOST else None
