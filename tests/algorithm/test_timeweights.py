"""TDW at every step by hand, its scaling, its rivals, and more than two rewards."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from likewise.algorithm import timeweights as tw
from likewise.algorithm.credit import advantages

# 0.3 + 0.4·(1 − sigmoid(0.8·(t − 10))), from a table of the logistic function.
HAND_OVER = {
    6: 0.68433, 7: 0.66673, 8: 0.63281, 9: 0.57599, 10: 0.50000, 11: 0.42401, 12: 0.36719,
    13: 0.33327, 14: 0.31567, 15: 0.30719, 16: 0.30326, 17: 0.30147, 18: 0.30066, 19: 0.30030,
    20: 0.30013, 21: 0.30006,
}  # fmt: skip
TABLE = [0.7] * 6 + list(HAND_OVER.values()) + [0.5] * 3


def test_tdw_at_every_step_of_the_paper() -> None:
    weights = tw.tdw(25)
    assert weights.shape == (25,) and weights.dtype == torch.float32
    assert weights.tolist() == pytest.approx(TABLE, abs=6e-6)


@pytest.mark.parametrize(
    "num_steps, first_hand_over, first_final", [(8, 2, 8), (10, 3, 9), (28, 7, 25), (50, 12, 44)]
)
def test_break_points_scale(num_steps: int, first_hand_over: int, first_final: int) -> None:
    # First t with t/T ≥ 0.24 and t/T ≥ 0.88; at T = 8 the latter would be t = 7.04.
    weights = tw.tdw(num_steps).tolist()
    high, final = pytest.approx(0.7), pytest.approx(0.5)
    assert all(w == high for w in weights[:first_hand_over])
    assert all(0.3 < w < 0.7 and w != high for w in weights[first_hand_over:first_final])
    assert all(w == final for w in weights[first_final:])


@pytest.mark.parametrize(
    "num_steps, step, u", [(8, 2, 6.25), (8, 3, 9.375), (10, 4, 10), (28, 14, 12.5), (50, 20, 10)]
)
def test_hand_over_scales(num_steps: int, step: int, u: float) -> None:
    expected = 0.3 + 0.4 * (1 - torch.sigmoid(torch.tensor(0.8 * (u - 10))).item())
    assert tw.tdw(num_steps)[step].item() == pytest.approx(expected)


def test_twice_the_steps_is_the_same_curve() -> None:
    torch.testing.assert_close(tw.tdw(50)[::2], tw.tdw(25))


def test_levels_of_tdw_are_its_arguments() -> None:
    weights = tw.tdw(25, high=0.9, low=0.2, final=0.6)
    assert weights[0].item() == pytest.approx(0.9)
    assert weights[10].item() == pytest.approx(0.55)  # half-way
    assert weights[21].item() == pytest.approx(0.2, abs=1e-3)
    assert weights[24].item() == pytest.approx(0.6)


def test_reversed_and_constant() -> None:
    torch.testing.assert_close(tw.reversed_tdw(25), 1 - torch.tensor(TABLE), atol=6e-6, rtol=0)
    torch.testing.assert_close(tw.reversed_tdw(25, 0.9, 0.2, 0.6), 1 - tw.tdw(25, 0.9, 0.2, 0.6))
    assert tw.constant(3).tolist() == [0.5] * 3
    assert tw.constant(2, 0.25).tolist() == [0.25] * 2


# ── measured ──


def test_measured_follows_a_power_of_shares() -> None:
    halves = tw.measured([0.8, 0.2], [0.2, 0.8], power=0.5)
    torch.testing.assert_close(halves, torch.tensor([2 / 3, 1 / 3]))
    with pytest.raises(ValueError, match="power must be positive"):
        tw.measured([1, 2], [2, 1], power=0)


def test_measured_by_hand() -> None:
    # Profiles are 1/2 1/4 1/4 0 and 0 1/4 3/4 0, whatever their units are.
    weights = tw.measured([1.0, 0.5, 0.5, 0.0], [0.0, 2, 6, 0])
    assert weights.dtype == torch.float32
    assert weights.tolist() == [1.0, 0.5, 0.25, 0.5]  # the last step moves neither


def test_equal_profiles_give_constant_weights() -> None:
    profile, other = [0.7, 0.2, 0.4, 0.0], [0.1, 0.3, 0.3, 0.2]
    torch.testing.assert_close(tw.measured(profile, [3 * p for p in profile]), tw.constant(4))
    torch.testing.assert_close(tw.measured(profile, other), 1 - tw.measured(other, profile))


# ── as released ──


def test_as_released_looks_up_by_loop_counter() -> None:
    order = torch.randperm(25, generator=torch.Generator().manual_seed(0))
    weights = tw.tdw_as_released(25, order)
    for counter, step in enumerate(order.tolist()):
        assert weights[step].item() == pytest.approx(TABLE[counter], abs=6e-6)


def test_as_released_in_order_is_tdw() -> None:
    torch.testing.assert_close(tw.tdw_as_released(25, torch.arange(25)), tw.tdw(25))


def test_as_released_samples_have_own_orders_and_no_final_stage() -> None:
    orders = torch.tensor([[24, 0, 12], [3, 2, 1]])
    weights = tw.tdw_as_released(25, orders)
    assert weights.shape == (2, 25)
    assert weights[0, 24].item() == weights[0, 0].item() == pytest.approx(0.7)
    assert weights.gather(1, orders).tolist() == [pytest.approx([0.7] * 3)] * 2
    assert weights[0, 1].item() == 0.5  # not trained
    K_weights = tw.per_reward(weights, ["prompt", "identity"])
    assert advantages(torch.ones(2, 2), K_weights, torch.zeros(2), 5).shape == (2, 25)


@pytest.mark.parametrize("order", [[0, 0], [0, 25], [-1, 0]])
def test_as_released_refuses_what_is_no_order(order: list[int]) -> None:
    with pytest.raises(ValueError, match="distinct steps"):
        tw.tdw_as_released(25, torch.tensor(order))


# ── K rewards ──


def test_two_rewards_are_the_papers_pair_in_the_order_of_z() -> None:
    prompt = tw.tdw(25)
    torch.testing.assert_close(
        tw.per_reward(prompt, ["prompt", "identity"]), torch.stack([prompt, 1 - prompt])
    )
    torch.testing.assert_close(
        tw.per_reward(prompt, ["identity", "prompt"]), torch.stack([1 - prompt, prompt])
    )


@pytest.mark.parametrize("prompts, identities", [(1, 1), (2, 1), (1, 2), (3, 2), (1, 0), (0, 3)])
def test_weights_sum_to_one_and_the_sides_keep_their_balance(prompts: int, identities: int) -> None:
    sides: list[tw.Side] = ["prompt"] * prompts + ["identity"] * identities
    weights = tw.per_reward(tw.tdw(25), sides)
    assert weights.shape == (prompts + identities, 25)
    torch.testing.assert_close(weights.sum(0), torch.ones(25))
    if prompts and identities:
        torch.testing.assert_close(weights[:prompts].sum(0), tw.tdw(25))
        torch.testing.assert_close(weights[0], weights[prompts - 1])


@pytest.mark.parametrize(
    "call",
    [
        lambda: tw.tdw(0),
        lambda: tw.tdw(25, high=1.1),
        lambda: tw.tdw(25, low=-0.1),
        lambda: tw.tdw(25, final=2),
        lambda: tw.constant(0),
        lambda: tw.constant(3, 1.5),
        lambda: tw.measured([1, 2], [1]),
        lambda: tw.measured([1, 2], [1, -1]),
        lambda: tw.measured([1, 2], [1, float("inf")]),
        lambda: tw.measured([0, 0], [1, 1]),
        lambda: tw.measured([], []),
        lambda: tw.per_reward(tw.tdw(5), []),
        lambda: tw.per_reward(tw.tdw(5), ["prompt", "style"]),
    ],
)
def test_bad_arguments_are_refused(call: Callable) -> None:
    with pytest.raises(ValueError):
        call()
