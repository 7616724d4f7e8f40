"""A linear preference on automatic scores, fitted to votes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import optimize

from likewise.people.metric_agreement import Judged

RIDGE = 1.0  # as if each standardised weight had been seen near 0 once


@dataclass(frozen=True)
class Preference:
    """People prefer image a to image b with odds exp(Σ weight × (score of a − score of b)).

    Attributes:
        weights: Per score, in units of 1 / score.
        votes, pairs: What it was fitted to.
        agreement: Share of pairs, of those on which people decide, that the fit calls right when
            their subject is left out of it; None where there are too few subjects or pairs.
        best_single: The score that agrees with people most, and how often, on the same pairs.
    """

    weights: dict[str, float]
    votes: int
    pairs: int
    agreement: float | None
    best_single: tuple[str, float] | None


def fit_preference(judged: Sequence[Judged], names: Sequence[str]) -> Preference:
    """Fit by logistic regression without intercept; a tie is half a vote for either image.

    Args:
        judged: Pairs with their votes; those that lack a score are left out.
        names: Scores to be weighed.

    Raises:
        ValueError: there is no score, or no pair has all scores.
    """
    known = [one for one in judged if all(one.gap(name) is not None for name in names)]
    if not names or not known:
        raise ValueError("no pair has both votes and scores: there is nothing to fit")
    gaps = np.array([[one.gap(name) for name in names] for one in known], dtype=float)
    net = np.array([one.net for one in known])
    votes = np.array([one.votes for one in known], dtype=float)
    scale = np.sqrt((gaps**2).mean(0))
    scale[scale == 0] = 1.0
    weights = _fit(gaps / scale, net, votes) / scale
    decided = net != 0
    single = [_alike(gaps[:, index], net)[decided] for index in range(len(names))]
    best = max(range(len(names)), key=lambda index: single[index].mean()) if decided.any() else None
    return Preference(
        weights={name: float(weight) for name, weight in zip(names, weights, strict=True)},
        votes=int(votes.sum()),
        pairs=len(known),
        agreement=_left_out(gaps / scale, net, votes, [one.pair.subject for one in known]),
        best_single=None if best is None else (names[best], float(single[best].mean())),
    )


def _fit(gaps: np.ndarray, net: np.ndarray, votes: np.ndarray) -> np.ndarray:
    """Weights [S] of standardised gaps [P, S], with a ridge."""
    share = (1 + net) / 2

    def loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
        odds = gaps @ weights
        value = votes @ (np.logaddexp(0, odds) - share * odds) + RIDGE / 2 * weights @ weights
        chance = 1 / (1 + np.exp(-odds))
        return float(value), gaps.T @ (votes * (chance - share)) + RIDGE * weights

    return optimize.minimize(loss, np.zeros(gaps.shape[1]), jac=True, method="BFGS").x


def _left_out(
    gaps: np.ndarray, net: np.ndarray, votes: np.ndarray, subjects: Sequence[str]
) -> float | None:
    """Share of decided pairs that a fit without their subject calls right; equal scores: half."""
    names = np.array(subjects)
    found: list[float] = []
    for subject in sorted(set(subjects)):
        own = names == subject
        if own.all():
            return None
        weights = _fit(gaps[~own], net[~own], votes[~own])
        found += _alike(gaps[own] @ weights, net[own])[net[own] != 0].tolist()
    return float(np.mean(found)) if found else None


def _alike(gap: np.ndarray, net: np.ndarray) -> np.ndarray:
    """1 where both prefer the same image, 0 where not, 0.5 where either does not say."""
    return (1 + np.sign(gap) * np.sign(net)) / 2
