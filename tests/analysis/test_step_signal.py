"""What time weights should bring: closed forms by hand, and against a simulation of the model."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from likewise.analysis.shaping_line import line_of, sars
from likewise.analysis.step_signal import (
    NO_TERM,
    Plan,
    ShapingTerm,
    Timing,
    best_speed,
    mean_weight,
    progress,
    saved,
)

STEPS = 6
ALL: list[Plan] = [(range(STEPS), range(STEPS))]
WINDOWS: list[Plan] = [((t, t + 1), (t, t + 1)) for t in range(STEPS - 1)]
NAIVE = np.full(STEPS, 0.5)
TDW = np.array([0.7, 0.7, 0.7, 0.3, 0.3, 0.3])
APART = np.array([[1, 1, 1, 0, 0, 0], [0, 0, 0, 1, 1, 1]]) / 3
USUAL = np.array([[0.5, 0.25, 0.1, 0.06, 0.05, 0.04], [0.05, 0.1, 0.15, 0.2, 0.2, 0.3]])


def test_rewards_that_share_no_step_save_41_percent() -> None:
    timing = Timing(APART, 0.0)
    tdw, naive = (progress(weights, timing, ALL) for weights in (TDW, NAIVE))
    assert (tdw.prompt, tdw.identity, tdw.noise) == pytest.approx((0.7, 0.7, 6 * 0.58))
    assert saved(tdw, naive) == pytest.approx(1 - 0.5 / 0.845, abs=1e-3)
    assert best_speed(timing, ALL) == pytest.approx(2 * naive.speed)  # 1 and 0: half the images


def test_equal_profiles_lose_what_uneven_weights_cost() -> None:
    timing = Timing(np.full((2, STEPS), 1 / STEPS), 0.0)
    tdw, naive = (progress(weights, timing, ALL) for weights in (TDW, NAIVE))
    assert saved(tdw, naive) == pytest.approx(1 - 2 * 0.58)
    assert best_speed(timing, ALL) == pytest.approx(naive.speed)


@pytest.mark.parametrize("correlation", [-0.4, 0.0, 0.5])
def test_the_formula_of_the_text(correlation: float) -> None:
    timing = Timing(USUAL, correlation)
    tdw, naive = (progress(weights, timing, ALL) for weights in (TDW, NAIVE))
    lead = TDW @ (USUAL[0] - USUAL[1])
    q = np.mean(TDW**2 + (1 - TDW) ** 2)
    ratio = 2 * (1 + correlation) * (q + correlation * (1 - q)) / (1 + lead + correlation) ** 2
    assert saved(tdw, naive) == pytest.approx(1 - ratio)
    assert naive.speed == pytest.approx(2 * (1 + correlation) / STEPS)  # conflict slows


def test_windows_blunt_what_timing_brings() -> None:
    timing = Timing(USUAL, 0.0)
    gains = [
        saved(progress(TDW, timing, plans), progress(NAIVE, timing, plans))
        for plans in (ALL, WINDOWS)
    ]
    assert gains[0] > 0.1 > gains[1]


def test_no_correlation_is_above_the_overlap() -> None:
    assert Timing(APART, -0.5).alignment == 0
    timing = Timing(USUAL, -1.0)
    assert timing.alignment == -1 and 0 < timing.overlap < 1


def test_a_window_that_decides_nothing_gives_no_credit() -> None:
    found = progress(NAIVE, Timing(APART, 0.0), [((0, 1), (0, 1))])
    assert found.identity == 0 and found.noise == pytest.approx(2 * 0.25)
    assert mean_weight(TDW, [((2, 3), (2, 3))]) == pytest.approx(0.5)


@dataclass(frozen=True)
class World:
    """The model itself: reward k is Σ_t √V_k(t)·n_k(t)·ε_t, its score at a step is ε_t."""

    shares: np.ndarray
    alignment: float
    size: int = 24  # dimensions of each step's noise

    def directions(self) -> np.ndarray:
        """Of both rewards, [2, size]: the first two axes, at the angle of the alignment."""
        first, second = np.eye(self.size)[:2]
        return np.stack([first, self.alignment * first + np.sqrt(1 - self.alignment**2) * second])

    def update(
        self, weights: np.ndarray, plan: Plan, images: int, rng: np.random.Generator, gamma: float
    ) -> tuple[np.ndarray, float]:
        """Progress of both rewards along the estimated gradient, and its noise per dimension."""
        random, trained = plan
        noise = rng.standard_normal((len(self.shares[0]), images, self.size))
        noise[[t for t in range(len(noise)) if t not in random]] = 0.0
        axes, own = self.directions(), np.sqrt(self.shares)
        raw = np.einsum("kt,kd,tbd->kb", own, axes, noise)
        z = raw / np.sqrt(self.shares[:, list(random)].sum(1))[:, None]
        found, spread = np.zeros(2), 0.0
        for t in trained:
            credit = weights[t] * z[0] + (1 - weights[t]) * z[1] + gamma * sars(z)
            terms = credit[:, None] * noise[t]
            found += own[:, t] * (axes @ terms.mean(0))
            spread += float(terms[:, 2:].var(0).mean())  # beside both directions
        return found, spread


@pytest.mark.parametrize(
    ("plans", "correlation", "gamma"),
    [(ALL, 0.0, 0.0), (ALL, -0.3, 0.0), (WINDOWS, -0.3, 0.0), (ALL, -0.3, 0.8)],
    ids=["uncorrelated", "conflict", "windows", "SARS"],
)
def test_progress_and_noise_are_those_of_a_simulation(
    plans: list[Plan], correlation: float, gamma: float
) -> None:
    timing = Timing(USUAL, correlation)
    world, rng = World(USUAL, timing.alignment), np.random.default_rng(0)
    drawn = [world.update(TDW, plan, 40_000, rng, gamma) for plan in plans]
    found = np.mean([parts for parts, _ in drawn], 0)
    spread = np.mean([part for _, part in drawn])
    term = gaussian_term(correlation, gamma) if gamma else NO_TERM
    predicted = progress(TDW, timing, plans, term)
    # 40,000 images: a standard error of about 0.005 for progress, and 0.3 % of the noise
    assert found == pytest.approx((predicted.prompt, predicted.identity), abs=0.02)
    assert spread == pytest.approx(predicted.noise, rel=0.015)


def test_fewer_images_by_what_is_saved_bring_the_same() -> None:
    timing = Timing(USUAL, -0.2)
    world, rng = World(USUAL, timing.alignment, size=200), np.random.default_rng(1)
    share = saved(progress(TDW, timing, ALL), progress(NAIVE, timing, ALL))
    assert share > 0.15
    lengths = {}
    for name, weights, images in (("naive", NAIVE, 100), ("tdw", TDW, round(100 * (1 - share)))):
        runs = [world.update(weights, ALL[0], images, rng, 0.0) for _ in range(400)]
        # An update of a fixed length, as Adam's, that is nearly all noise.
        steps = [parts.sum() / np.sqrt(spread * STEPS * 200 / images) for parts, spread in runs]
        lengths[name] = np.mean(steps)
    assert lengths["tdw"] == pytest.approx(lengths["naive"], rel=0.03)


def gaussian_term(correlation: float, gamma: float) -> ShapingTerm:
    mixed = [[1, correlation], [correlation, 1]]
    z = np.random.default_rng(2).multivariate_normal([0, 0], mixed, 400_000).T
    line = line_of(z)
    return ShapingTerm(gamma * line.slopes, gamma**2 * line.rest)
