"""Signal and noise of an update, from when two rewards are decided: what time weights should bring.

The model, its assumptions and the derivation are in docs/method.md §9. In short: a reward is a sum
over steps of what each step's noise did; credit of a step is a sum of both rewards' z; what belongs
to other steps is noise there. Rewards come as (prompt, identity) everywhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

Plan = tuple[Sequence[int], Sequence[int]]  # steps of an iteration: random ones, trained ones


@dataclass(frozen=True)
class Timing:
    """When two rewards are decided, and how they go together.

    Attributes:
        shares: Of each reward's variance by step, float [2, T], each row with sum 1.
        correlation: Of both rewards inside a group, with every stochastic step random.
    """

    shares: np.ndarray
    correlation: float

    @property
    def overlap(self) -> float:
        """Σ_t √(V_p·V_i): 1 for equal profiles, 0 for rewards that share no step. No correlation
        can be larger than that in this model."""
        return float(np.sqrt(self.shares.prod(0)).sum())

    @property
    def alignment(self) -> float:
        """κ, the cosine of both rewards' directions at a step, taken to be the same at all."""
        if self.overlap == 0:
            return 0.0
        return float(np.clip(self.correlation / self.overlap, -1, 1))


@dataclass(frozen=True)
class ShapingTerm:
    """A shaping term as a straight line in both z, and a rest that has nothing to do with them.

    Attributes:
        slopes: [2].
        rest: Variance of the rest, which trains nothing in this model.
    """

    slopes: np.ndarray
    rest: float


NO_TERM = ShapingTerm(np.zeros(2), 0.0)


@dataclass(frozen=True)
class Progress:
    """What an update brings, per image and iteration.

    Attributes:
        prompt, identity: Progress of each reward, in its own standard deviations within a task.
        noise: Variance of the gradient per dimension.
    """

    prompt: float
    identity: float
    noise: float

    @property
    def speed(self) -> float:
        """Squared progress of the sum over noise: images needed for the same are inverse to it."""
        total = self.prompt + self.identity
        return total**2 / self.noise if total > 0 else 0.0

    @property
    def balance(self) -> float:
        """The prompt's part of the progress."""
        total = self.prompt + self.identity
        return self.prompt / total if total else 0.5


def progress(
    prompt_weight: np.ndarray, timing: Timing, plans: Sequence[Plan], term: ShapingTerm = NO_TERM
) -> Progress:
    """Of an arm with these weights of the prompt [T], averaged over the iterations' plans.

    Where only the steps of a window are random, z is in units of what the window decides: a window
    that decides little of a reward gives its z as much weight as one that decides all of it.
    """
    found = np.zeros(3)
    for random, trained in plans:
        scale, correlation = _within(timing, random)
        steps = list(trained)
        own = np.sqrt(timing.shares[:, steps])
        weights = np.stack([prompt_weight[steps], 1 - prompt_weight[steps]])
        weights = (weights + term.slopes[:, None]) * (scale > 0)[:, None]
        pull = weights * own * scale[:, None]
        found[:2] += (own * (pull + timing.alignment * pull[::-1])).sum(1)
        found[2] += (weights**2).sum() + 2 * correlation * weights.prod(0).sum()
        found[2] += term.rest * len(steps)
    return Progress(*(found / len(plans)).tolist())


def best_speed(timing: Timing, plans: Sequence[Plan]) -> float:
    """Speed of the best weights of both rewards at every step, which need not sum to 1."""
    total = 0.0
    for random, trained in plans:
        scale, correlation = _within(timing, random)
        own = np.sqrt(timing.shares[:, list(trained)])
        value = own * scale[:, None] * (own + timing.alignment * own[::-1])
        mixed = np.linalg.pinv([[1.0, correlation], [correlation, 1.0]])
        total += float((value * (mixed @ value)).sum())
    return total / len(plans)


def saved(arm: Progress, than: Progress) -> float:
    """Share of the images of `than` that `arm` can do without for the same progress of the sum;
    below 0 where it needs more."""
    if arm.speed == 0:
        return -np.inf if than.speed else 0.0
    return 1 - than.speed / arm.speed


def mean_weight(prompt_weight: np.ndarray, plans: Sequence[Plan]) -> float:
    """Mean weight of the prompt over trained steps: the constant that matches these weights."""
    return float(np.mean([prompt_weight[t] for _, trained in plans for t in trained]))


def _within(timing: Timing, random: Sequence[int]) -> tuple[np.ndarray, float]:
    """What z is of the reward where so many steps are random, [2]: 1/√(their share), 0 where they
    decide nothing; and the correlation of both z then."""
    inside = timing.shares[:, list(random)]
    share = inside.sum(1)
    scale = np.divide(1.0, np.sqrt(share), out=np.zeros(2), where=share > 0)
    together = timing.alignment * np.sqrt(inside.prod(0)).sum()
    return scale, float(together * scale.prod())
