"""Which steps are random and which are trained: settled by recipe, seed and iteration alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from likewise.config.rollout import AllSteps, RandomSteps, Rollout, WindowSteps
from likewise.rollout.steps import StepPlan, loop_orders, plan_steps


def plans(trained: Any, count: int = 40, seed: int = 0, **settings: Any) -> list[StepPlan]:
    rollout = Rollout(trained=trained, **{"num_steps": 10, **settings})
    return [plan_steps(rollout, seed, iteration) for iteration in range(count)]


def test_all_steps() -> None:
    assert plans(AllSteps(), 2) == [StepPlan(tuple(range(10)), tuple(range(10)))] * 2
    (one,) = plans(AllSteps(), 1, deterministic_tail=3)
    assert one == StepPlan(tuple(range(7)), tuple(range(7)))


@pytest.mark.parametrize(
    "fraction, tail, count",
    [(0.6, 0, 6), (0.25, 0, 2), (0.5, 3, 4), (0.01, 0, 1), (1.0, 2, 8)],
)
def test_a_random_share_of_the_stochastic_steps(fraction: float, tail: int, count: int) -> None:
    seen = plans(RandomSteps(fraction=fraction), deterministic_tail=tail)
    for one in seen:
        assert one.stochastic == tuple(range(10 - tail))
        assert len(one.trained) == len(set(one.trained)) == count
        assert list(one.trained) == sorted(one.trained)
        assert set(one.trained) <= set(one.stochastic)
    assert {t for one in seen for t in one.trained} == set(range(10 - tail))


def test_every_step_is_as_likely_as_any_other() -> None:
    seen = plans(RandomSteps(fraction=0.5), 800)
    counts = torch.zeros(10)
    for one in seen:
        counts[list(one.trained)] += 1
    assert (counts - 400).abs().max() < 5 * (800 * 0.25) ** 0.5


@pytest.mark.parametrize("trained", [RandomSteps(), WindowSteps(size=3)])
def test_plans_follow_from_seed_and_iteration(trained: Any) -> None:
    assert plans(trained) == plans(trained)
    assert plans(trained, seed=0) != plans(trained, seed=1)
    assert len(set(plans(trained))) > 4


def test_a_random_window_stays_inside_and_reaches_both_ends() -> None:
    seen = plans(WindowSteps(size=3), 200, deterministic_tail=2)
    starts = {one.trained[0] for one in seen}
    assert starts == set(range(6))  # the last window is 5, 6, 7
    for one in seen:
        assert one.stochastic == one.trained == tuple(range(one.trained[0], one.trained[0] + 3))


def test_first_and_last_bound_the_window() -> None:
    seen = plans(WindowSteps(size=2, first=3, last=5), 100)
    assert {one.trained for one in seen} == {(3, 4), (4, 5), (5, 6)}
    assert {one.trained for one in plans(WindowSteps(size=4, first=6), 9)} == {(6, 7, 8, 9)}


def test_a_forward_window_slides_and_begins_again() -> None:
    window = WindowSteps(size=4, first=1, last=3, order="forward", every=2)
    starts = [one.trained[0] for one in plans(window, 9)]
    assert starts == [1, 1, 2, 2, 3, 3, 1, 1, 2]


def test_a_random_window_moves_only_every_so_often() -> None:
    starts = [one.trained[0] for one in plans(WindowSteps(size=2, every=5), 50)]
    for at in range(0, 50, 5):
        assert len(set(starts[at : at + 5])) == 1
    assert len(set(starts[::5])) > 3


# ── orders of the ablation ──


def orders(seed: int = 0, iteration: int = 1) -> Tensor:
    steps = (1, 4, 5, 9)
    return loop_orders(Rollout(num_steps=10), StepPlan(steps, steps), 300, seed, iteration)


def test_a_window_is_shuffled_among_all_steps_that_it_may_hold() -> None:
    settings = Rollout(num_steps=6, deterministic_tail=1, trained=WindowSteps(size=2))
    drawn = loop_orders(settings, plan_steps(settings, 0, 0), 50, 0, 1)
    assert torch.equal(drawn.sort(1).values, torch.arange(5).expand(50, 5))


def test_every_sample_has_a_permutation_of_its_own() -> None:
    drawn = orders()
    assert drawn.shape == (300, 4) and drawn.dtype == torch.int64
    assert torch.equal(drawn.sort(1).values, torch.tensor([[1, 4, 5, 9]]).expand(300, 4))
    assert len({tuple(order) for order in drawn.tolist()}) == 24  # all of them
    firsts = (drawn[:, 0] == 9).float().mean()
    assert abs(float(firsts) - 0.25) < 0.1


def test_orders_follow_from_seed_and_iteration() -> None:
    assert torch.equal(orders(), orders())
    assert not torch.equal(orders(), orders(seed=1))
    assert not torch.equal(orders(), orders(iteration=2))
