"""How sure a mean is: over subjects, over seeds, and of the difference between two arms.

Intervals are 95 %. Values that are None or NaN are left out everywhere, never taken as 0. Random
draws have a fixed seed, so that equal numbers give equal intervals.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

CONFIDENCE = 0.95
FLIPS = 9999  # all sign flips are tried where there are no more than that: up to 13 values

Values = Sequence[float | None] | np.ndarray


@dataclass(frozen=True)
class Estimate:
    """A mean and what is known of it.

    Attributes:
        mean: None where there is no value.
        low, high: 95 % interval; None where the values do not settle one.
        n: Number of values in the mean.
    """

    mean: float | None
    low: float | None
    high: float | None
    n: int


def cluster_bootstrap(
    values: Values, clusters: Sequence[object] | np.ndarray, resamples: int = 2000
) -> Estimate:
    """Mean of values [n], with an interval from a bootstrap over whole clusters [n] (subjects).

    Images of one subject are not independent, so subjects are drawn, each with all its values;
    every value has the same weight. The percentile interval is known to be too narrow for few
    clusters c, like a normal interval with the variance over c instead of c − 1. So it is taken at
    the level that would make it Student's interval if means were normal ("expanded percentile
    interval", Hesterberg, arXiv:1411.5279): for 30 clusters 96.2 % instead of 95 %.

    With fewer than two clusters there is no interval.

    Raises:
        ValueError: not one cluster per value.
    """
    known, names = _numbers(values), np.asarray(clusters)
    if known.shape != names.shape or known.ndim != 1:
        raise ValueError(f"{known.shape} values, but {names.shape} clusters: wanted one each")
    names, known = names[~np.isnan(known)], known[~np.isnan(known)]
    if not len(known):
        return Estimate(None, None, None, 0)
    mean, n = float(known.mean()), len(known)
    _, index = np.unique(names, return_inverse=True)
    sums, counts = np.bincount(index, weights=known), np.bincount(index)
    if len(sums) < 2:
        return Estimate(mean, None, None, n)
    return Estimate(mean, *ratio_interval(sums, counts, resamples), n)


def ratio_interval(
    parts: np.ndarray, wholes: np.ndarray, resamples: int = 2000
) -> tuple[float, float]:
    """95 % interval of Σ parts / Σ wholes over c ≥ 2 clusters [c], which are drawn whole.

    The interval of :func:`cluster_bootstrap`, for any ratio of sums; a ratio whose denominator is
    0 counts as 0.
    """
    return _interval((parts, wholes), sums_ratio, resamples)


def ratio_difference(
    first: tuple[np.ndarray, np.ndarray],
    second: tuple[np.ndarray, np.ndarray],
    resamples: int = 2000,
) -> Estimate:
    """Σ parts / Σ wholes of `first` minus that of `second`, over the same c clusters.

    Both are of the same draws of clusters, so what makes both larger in some cluster cancels.
    The interval is that of :func:`cluster_bootstrap`; with fewer than two clusters there is none.

    Args:
        first, second: Parts and wholes, each [c].
    """

    def difference(
        part: np.ndarray, whole: np.ndarray, other: np.ndarray, own: np.ndarray, axis: int = -1
    ) -> np.ndarray:
        return sums_ratio(part, whole, axis) - sums_ratio(other, own, axis)

    columns = (*first, *second)
    mean, n = float(difference(*columns)), len(columns[0])
    if n < 2:
        return Estimate(mean, None, None, n)
    return Estimate(mean, *_interval(columns, difference, resamples), n)


def sums_ratio(parts: np.ndarray, wholes: np.ndarray, axis: int = -1) -> np.ndarray:
    """Σ parts / Σ wholes along `axis`; 0 where the denominator is 0."""
    part, whole = parts.sum(axis=axis, dtype=np.float64), wholes.sum(axis=axis, dtype=np.float64)
    return np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)


def over_seeds(values: Values) -> Estimate:
    """Mean of one value per seed [s], with Student's t interval; none for fewer than two."""
    known = _numbers(values)
    known = known[~np.isnan(known)]
    if not len(known):
        return Estimate(None, None, None, 0)
    mean, n = float(known.mean()), len(known)
    if n < 2:
        return Estimate(mean, None, None, n)
    reach = float(stats.sem(known) * stats.t.ppf((1 + CONFIDENCE) / 2, n - 1))
    return Estimate(mean, mean - reach, mean + reach, n)


def sign_flip(values: Values) -> float:
    """Two-sided p of the hypothesis that values [n] are as likely to be x as −x: mean 0.

    Exact, over all 2^n signs, for up to 13 values, so p is never below 2/2^n: with 5 seeds never
    below 2/32 = 0.0625, however large the effect. For more values 9999 random flips; p is then at
    least 2/10000. With fewer than two values p is 1.
    """
    known = _numbers(values)
    known = known[~np.isnan(known)]
    if len(known) < 2:
        return 1.0
    tried = stats.permutation_test(
        (known,),
        lambda values, axis=-1: values.mean(axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=FLIPS,
        alternative="two-sided",
        rng=np.random.default_rng(0),
    )
    return float(tried.pvalue)


def _numbers(values: Values) -> np.ndarray:
    """float64, NaN where None."""
    return np.asarray(values, dtype=np.float64)


def _interval(
    columns: Sequence[np.ndarray], statistic: Callable[..., np.ndarray], resamples: int
) -> tuple[float, float]:
    """Percentile interval of a statistic of paired columns over c clusters [c], drawn whole."""
    drawn = stats.bootstrap(
        columns,
        statistic,
        paired=True,
        n_resamples=resamples,
        confidence_level=percentile_level(len(columns[0])),
        method="percentile",
        rng=np.random.default_rng(0),
    ).confidence_interval
    return float(drawn.low), float(drawn.high)


def percentile_level(clusters: int) -> float:
    """Level at which a percentile interval over so many clusters covers 95 %."""
    student = stats.t.ppf((1 + CONFIDENCE) / 2, clusters - 1)
    normal = math.sqrt(clusters / (clusters - 1)) * student
    return float(2 * stats.norm.cdf(normal) - 1)
