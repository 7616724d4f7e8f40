"""Which steps of an iteration are drawn at random, and which are trained (docs/method.md §3)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from likewise.config.rollout import AllSteps, RandomSteps, Rollout, WindowSteps
from likewise.seeding import derive_seed


@dataclass(frozen=True)
class StepPlan:
    """The steps of one iteration, by true index in the sampling schedule, ascending.

    Attributes:
        stochastic: Steps that draw from a transition; all others follow the ODE.
        trained: Those of them that the update replays.
    """

    stochastic: tuple[int, ...]
    trained: tuple[int, ...]


def plan_steps(settings: Rollout, seed: int, iteration: int) -> StepPlan:
    """The steps of iteration 0, 1, …; the same for every image of it.

    The paper draws a random subset for every trajectory. One subset for all has the same
    expectation, keeps the advantages of a group at 0 on average at every trained step, and lets
    the update replay the rollout's own batches, so that ratios start at exactly 1.
    """
    stochastic = tuple(range(settings.num_steps - settings.deterministic_tail))
    trained = settings.trained
    if isinstance(trained, AllSteps):
        return StepPlan(stochastic, stochastic)
    if isinstance(trained, RandomSteps):
        count = max(1, round(trained.fraction * len(stochastic)))
        order = torch.randperm(len(stochastic), generator=_generator(seed, iteration))
        return StepPlan(stochastic, tuple(sorted(order[:count].tolist())))
    start = _window_start(trained, len(stochastic), seed, iteration)
    window = tuple(range(start, start + trained.size))
    return StepPlan(window, window)


def _window_start(window: WindowSteps, stochastic: int, seed: int, iteration: int) -> int:
    starts = window.starts(stochastic)
    move = iteration // window.every
    if window.order == "forward":
        return starts[move % len(starts)]
    return starts[int(torch.randint(len(starts), (1,), generator=_generator(seed, move)))]


def loop_orders(
    settings: Rollout, plan: StepPlan, samples: int, seed: int, iteration: int
) -> Tensor:
    """Steps in an order of its own for each sample, int64 [B, N], as the released code trains them.

    Only `timeweights.tdw_as_released` reads it: that ablation weighs a step by its position in this
    order. The steps are the trained ones; for a window, whose few steps would only ever have the
    first positions, all that a window may hold.
    """
    steps = plan.trained
    if isinstance(settings.trained, WindowSteps):
        steps = tuple(range(settings.num_steps - settings.deterministic_tail))
    shuffle = torch.rand(samples, len(steps), generator=_generator(seed, iteration, "order"))
    return torch.tensor(steps)[shuffle.argsort(1)]


def _generator(seed: int, *parts: int | str) -> torch.Generator:
    return torch.Generator().manual_seed(derive_seed("steps", seed, *parts))
