"""What attribution and a few groups of samples say about training with two rewards.

Whether they conflict inside groups, when each is decided, what time weights should save, and how
much of SARS is not a weighted sum. The model behind it is in docs/method.md §9. Rewards come as
(prompt, identity) everywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from likewise.analysis.intervals import Estimate, percentile_level, ratio_difference, ratio_interval
from likewise.analysis.shaping_line import gamma_for, linear_share
from likewise.analysis.step_signal import (
    Plan,
    Timing,
    best_speed,
    mean_weight,
    progress,
    saved,
)

LINE = 0.9  # share of the advantages on a line above which SARS is called a rescaled sum
WORTH = 0.05  # least share of images whose saving is worth another arm
RESAMPLES = 500
NAIVE = "naive"


@dataclass(frozen=True)
class Evidence:
    """What advice is made of.

    Attributes:
        parts: What each step moved each reward, by subject: [2, c, T], in any unit for each reward;
            see `evaluation.attribution`.
        z: Of the samples of n groups of G: [2, n, G]; 0 where missing.
        subjects: Of the n groups.
        plans: Steps that are random, and trained, in each iteration.
        arms: Name → weight of the prompt at each step [T]; naive is not among them.
        gamma: Of SARS.
        sums: Of each reward's shares: 1 where steps do not interact, more where they do.
    """

    parts: np.ndarray
    z: np.ndarray
    subjects: Sequence[str]
    plans: Sequence[Plan]
    arms: Mapping[str, np.ndarray]
    gamma: float
    sums: tuple[float, float]


@dataclass(frozen=True)
class ArmAdvice:
    """What time weights are predicted to save.

    Attributes:
        saved: Share of naive's images, for the same progress of the sum of both rewards.
        saved_matched: Of the images of a constant weight with the same mean.
        matched: That constant weight of the prompt.
        balance: The prompt's part of the progress.
    """

    saved: Estimate
    saved_matched: Estimate
    matched: float
    balance: float


@dataclass(frozen=True)
class Advice:
    """Numbers with 95 % intervals over subjects.

    Attributes:
        correlation: Of both z inside groups.
        opposed: Share of samples whose z have opposite signs.
        overlap: Of both profiles, 0 … 1.
        centres: Side → mean step that decides its reward.
        delay: Steps by which identity is decided later.
        balance: The prompt's part of naive's progress.
        arms: By name.
        bound: What the best weights over steps would save against naive.
        gamma: Of SARS.
        linear: Share of SARS's advantages, at equal weights, that a straight line in both z
            explains.
        needed_gamma: γ from which it explains no more than `LINE`; no mean where it always does.
        choice: Arm to try: naive, or one of `arms`.
        sure: Whether the interval of what it saves settles that.
        sums: Side → sum of its reward's shares; the model behind predictions holds at 1.
    """

    correlation: Estimate
    opposed: float
    overlap: Estimate
    centres: Mapping[str, Estimate]
    delay: Estimate
    balance: float
    arms: Mapping[str, ArmAdvice]
    bound: Estimate
    gamma: float
    linear: Estimate
    needed_gamma: Estimate
    choice: str
    sure: bool
    sums: Mapping[str, float]


def advise(evidence: Evidence) -> Advice:
    """What the evidence says. For intervals, subjects are drawn anew: those of groups and those of
    parts apart.

    Raises:
        ValueError: no group varies in both rewards, or no step moves one of them.
    """
    z, subjects = _at_stake(evidence)
    if not len(subjects) or not evidence.parts.sum((1, 2)).all():
        raise ValueError("one of the rewards never varies inside a task: there is nothing to weigh")
    prompt, identity = evidence.parts
    rng = np.random.default_rng(0)
    timing = Timing(_shares(evidence.parts), _correlation(z))
    point = _predictions(timing, evidence)
    drawn = [_predictions(_redrawn(evidence.parts, z, subjects, rng), evidence)
             for _ in range(RESAMPLES)]  # fmt: skip
    clusters = min(len(prompt), len(set(subjects.tolist())))

    def estimate(name: str) -> Estimate:
        return _estimate(point[name], [draw[name] for draw in drawn], clusters)

    def over_groups(statistic: Callable[[np.ndarray], float]) -> Estimate:
        return _over_groups(z, subjects, statistic, rng)

    arms = {
        name: ArmAdvice(
            saved=estimate(name),
            saved_matched=estimate(f"{name}, matched"),
            matched=mean_weight(weights, evidence.plans),
            balance=progress(weights, timing, evidence.plans).balance,
        )
        for name, weights in evidence.arms.items()
    }
    choice, sure = choose(arms)
    return Advice(
        correlation=over_groups(_correlation),
        opposed=float((z[0] * z[1] < 0).mean()),
        overlap=estimate("overlap"),
        centres={"prompt": _centre(prompt), "identity": _centre(identity)},
        delay=ratio_difference(_moments(identity), _moments(prompt)),
        balance=progress(_even(evidence), timing, evidence.plans).balance,
        arms=arms,
        bound=estimate("bound"),
        gamma=evidence.gamma,
        linear=over_groups(lambda drawn: linear_share(_flat(drawn), [0.5], evidence.gamma)),
        needed_gamma=over_groups(lambda drawn: gamma_for(_flat(drawn), [0.5], LINE) or np.inf),
        choice=choice,
        sure=sure,
        sums=dict(zip(("prompt", "identity"), evidence.sums, strict=True)),
    )


def choose(arms: Mapping[str, ArmAdvice]) -> tuple[str, bool]:
    """The arm to try, and whether its interval settles it.

    Weights over time are worth a try where they are predicted to save `WORTH` of naive's images or
    more, and something against the constant weight that matches them. The choice is sure where the
    whole intervals are on one side: above 0 for such an arm, below `WORTH` of all arms for naive.
    """

    def gain(arm: ArmAdvice) -> float:
        return min(arm.saved.mean or 0.0, (arm.saved_matched.mean or 0.0) + WORTH)

    name = max(arms, key=lambda name: gain(arms[name]), default=NAIVE)
    if name == NAIVE or gain(arms[name]) < WORTH:
        highs = [arm.saved.high for arm in arms.values()]
        return NAIVE, all(high is not None and high < WORTH for high in highs)
    lows = (arms[name].saved.low, arms[name].saved_matched.low)
    return name, all(low is not None and low > 0 for low in lows)


def group_z(values: np.ndarray, floor: float = 1e-6) -> np.ndarray:
    """z [R, n, G] of R rewards in each of n groups; 0 where any reward is missing (NaN), and
    throughout where fewer than two samples are left or the unbiased std is below `floor`."""
    known = np.isfinite(values).all(0)
    count = known.sum(-1, keepdims=True)
    kept = np.where(known, values, 0.0)
    apart = np.where(known, kept - kept.sum(-1, keepdims=True) / np.maximum(count, 1), 0.0)
    std = np.sqrt((apart**2).sum(-1, keepdims=True) / np.maximum(count - 1, 1))
    return np.divide(apart, std, out=np.zeros_like(apart), where=std >= max(floor, 1e-12))


def _predictions(timing: Timing, evidence: Evidence) -> dict[str, float]:
    """Overlap, bound, and what each arm saves against naive and against its matched weight."""
    plans = evidence.plans
    naive, best = progress(_even(evidence), timing, plans), best_speed(timing, plans)
    found = {"overlap": timing.overlap, "bound": 1 - naive.speed / best if best else 0.0}
    for name, weights in evidence.arms.items():
        constant = np.full(len(weights), mean_weight(weights, plans))
        arm = progress(weights, timing, plans)
        found[name] = saved(arm, naive)
        found[f"{name}, matched"] = saved(arm, progress(constant, timing, plans))
    return found


def _even(evidence: Evidence) -> np.ndarray:
    return np.full(evidence.parts.shape[2], 0.5)


def _redrawn(
    parts: np.ndarray, z: np.ndarray, subjects: np.ndarray, rng: np.random.Generator
) -> Timing:
    """Profiles of subjects drawn anew, and the correlation of groups drawn anew."""
    own = rng.integers(parts.shape[1], size=parts.shape[1])
    return Timing(_shares(parts[:, own]), _correlation(z[:, _redraw(subjects, rng)]))


def _redraw(subjects: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Indices of the groups of subjects drawn with replacement, all groups of one together."""
    names, index = np.unique(subjects, return_inverse=True)
    drawn = rng.integers(len(names), size=len(names))
    return np.concatenate([np.flatnonzero(index == one) for one in drawn])


def _at_stake(evidence: Evidence) -> tuple[np.ndarray, np.ndarray]:
    """z and subjects of groups in which both rewards vary."""
    varies = (evidence.z != 0).any(2).all(0)
    return evidence.z[:, varies], np.array(evidence.subjects)[varies]


def _over_groups(
    z: np.ndarray,
    subjects: np.ndarray,
    statistic: Callable[[np.ndarray], float],
    rng: np.random.Generator,
) -> Estimate:
    """A statistic of z [2, n, G], with an interval over the subjects of the groups."""
    values = [statistic(z[:, _redraw(subjects, rng)]) for _ in range(RESAMPLES)]
    return _estimate(statistic(z), values, len(set(subjects.tolist())))


def _shares(parts: np.ndarray) -> np.ndarray:
    """[2, T], each row with sum 1; even where nothing was moved."""
    moved = parts.sum(1)
    total = moved.sum(1, keepdims=True)
    even = np.full_like(moved, 1 / moved.shape[1])
    return np.divide(moved, total, out=even, where=total > 0)


def _correlation(z: np.ndarray) -> float:
    first, second = _flat(z)
    return float(first @ second / np.sqrt((first @ first) * (second @ second)))


def _flat(z: np.ndarray) -> np.ndarray:
    return z.reshape(2, -1)


def _estimate(mean: float, drawn: Sequence[float], clusters: int) -> Estimate:
    """With a percentile interval; bounds that are not finite, or of one cluster, are None."""
    if clusters < 2 or not np.isfinite(mean):
        return Estimate(mean if np.isfinite(mean) else None, None, None, clusters)
    level = percentile_level(clusters)
    bounds = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2], method="nearest")
    low, high = (float(bound) if np.isfinite(bound) else None for bound in bounds)
    return Estimate(mean, low, high, clusters)


def _centre(parts: np.ndarray) -> Estimate:
    """Mean step, weighted by what the steps moved: of parts [c, T]."""
    first, whole = _moments(parts)
    return Estimate(float(first.sum() / whole.sum()), *ratio_interval(first, whole), len(parts))


def _moments(parts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Σ_t t·part and Σ_t part of each subject."""
    return parts @ np.arange(parts.shape[1]), parts.sum(1)
