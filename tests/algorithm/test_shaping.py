"""SARS quadrant by quadrant, and its rivals, by hand and by their properties."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from likewise.algorithm import shaping

SYMMETRIC: list[Callable[[Tensor], Tensor]] = [
    lambda z: shaping.sars(z, 0.4),
    shaping.minimum,
    shaping.maximum,
    shaping.harmonic_bonus,
    shaping.product,
]
NAMES = ["sars", "minimum", "maximum", "harmonic_bonus", "product"]
EVERY_SYMMETRIC = pytest.mark.parametrize("shape", SYMMETRIC, ids=NAMES)


def pair(p: float, i: float) -> Tensor:
    return torch.tensor([[p], [i]])


def scores(K: int, B: int = 12, seed: int = 0) -> Tensor:
    return torch.randn(K, B, generator=torch.Generator().manual_seed(seed))


# ── SARS ──


@pytest.mark.parametrize(
    "p, i, expected",
    [
        (1.0, 0.5, +0.4 * math.tanh(0.5)),  # synergy
        (1.0, -0.5, -0.4 * math.tanh(0.5)),  # conflict
        (-1.0, 0.5, -0.4 * math.tanh(0.5)),  # conflict
        (-1.0, -0.5, -0.4 * math.tanh(0.5)),  # bad at both
        (0.0, 3.0, 0.0),
        (0.0, -3.0, 0.0),
        (0.0, 0.0, 0.0),
        (9.0, 9.0, 0.4),
    ],
)
def test_sars_truth_table(p: float, i: float, expected: float) -> None:
    assert shaping.sars(pair(p, i), 0.4).item() == pytest.approx(expected)


def test_only_synergy_is_rewarded() -> None:
    z = scores(2, 1000)
    assert torch.equal(shaping.sars(z, 0.4) > 0, (z > 0).all(0))


def test_sars_is_proportional_to_gamma_and_off_at_zero() -> None:
    z = scores(2)
    torch.testing.assert_close(shaping.sars(z, 0.8), 2 * shaping.sars(z, 0.4))
    assert shaping.sars(z, 0.0).abs().max() == 0


def test_three_rewards_are_the_mean_over_pairs() -> None:
    z = scores(3)
    pairs = [shaping.sars(z[[a, b]], 0.4) for a, b in ((0, 1), (0, 2), (1, 2))]
    torch.testing.assert_close(shaping.sars(z, 0.4), sum(pairs) / 3)


# ── the interface ──


@EVERY_SYMMETRIC
@pytest.mark.parametrize("K", [2, 3, 4])
def test_an_average_member_gets_nothing(shape: Callable, K: int) -> None:
    total = shape(torch.zeros(K, 5))
    assert total.shape == (5,) and total.dtype == torch.float32
    assert total.abs().max() < 1e-6


@EVERY_SYMMETRIC
@pytest.mark.parametrize("K", [2, 3])
def test_the_order_of_rewards_does_not_matter(shape: Callable, K: int) -> None:
    z = scores(K)
    torch.testing.assert_close(shape(z.flip(0)), shape(z))


@EVERY_SYMMETRIC
def test_one_reward_is_refused(shape: Callable) -> None:
    with pytest.raises(ValueError, match="at least 2"):
        shape(torch.zeros(1, 5))


@EVERY_SYMMETRIC
def test_members_are_independent(shape: Callable) -> None:
    z = scores(2)
    torch.testing.assert_close(shape(z)[3:5], shape(z[:, 3:5]))


def test_negative_gamma_is_refused() -> None:
    for shape in (shaping.sars, shaping.harmonic_bonus):
        with pytest.raises(ValueError, match="gamma"):
            shape(pair(1, 1), -0.1)


# ── the rivals ──


def test_minimum_and_maximum() -> None:
    z = torch.tensor([[1.0, -2, 0.5], [3.0, -4, -0.5], [2.0, 0, 0]])
    assert shaping.minimum(z).tolist() == [1, -4, -0.5]
    assert shaping.maximum(z).tolist() == [3, 0, 0.5]


@pytest.mark.parametrize(
    "p, i, expected",
    [(2.0, 3.0, 6 / 5), (-2.0, -3.0, -6 / 5), (2.0, -3.0, -6 / 5), (-2.0, 3.0, -6 / 5), (0, 2, 0)],
)
def test_harmonic_quadrants(p: float, i: float, expected: float) -> None:
    z = pair(p, i)
    assert shaping.harmonic_bonus(z, 1.0).item() == pytest.approx(expected)
    assert shaping.harmonic_bonus(z, 0.4).item() == pytest.approx(0.4 * expected)


def test_harmonic_is_the_released_form_where_that_is_sound() -> None:
    z = scores(2, 200)
    released = z.prod(0) / (z.sum(0) + 1e-6)
    agree = z[0] * z[1] > 0
    torch.testing.assert_close(
        shaping.harmonic_bonus(z, 1.0)[agree], released[agree], rtol=1e-3, atol=1e-5
    )


@pytest.mark.parametrize("delta", [0.0, 1e-7, -1e-7, 1e-4, -1e-4])
def test_harmonic_is_safe_at_opposite_scores(delta: float) -> None:
    total = shaping.harmonic_bonus(pair(1.5, -1.5 + delta), 1.0).item()
    assert total == pytest.approx(-0.75, abs=1e-3)


def test_harmonic_is_bounded_by_the_smaller_score() -> None:
    z = scores(2, 1000) * torch.logspace(-30, 15, 1000)
    bonus = shaping.harmonic_bonus(z, 1.0)
    assert bool((bonus.abs() <= z.abs().amin(0) * 1.000001).all())


def test_product_by_hand_and_monotone() -> None:
    expected = math.log(1 + math.e) * math.log(1 + math.exp(-2)) - math.log(2) ** 2
    assert shaping.product(pair(1.0, -2.0)).item() == pytest.approx(expected)
    # Two bad scores must not multiply to a good one.
    assert shaping.product(pair(-3.0, -3.0)).item() < shaping.product(pair(-1.0, -1.0)).item() < 0
    assert shaping.product(pair(2.0, 1.0)).item() > shaping.product(pair(1.0, 1.0)).item() > 0


def test_weighted_sum() -> None:
    z = torch.tensor([[1.0, 2], [10.0, 20]])
    assert shaping.weighted_sum(z, [0.5, 0.25]).tolist() == [3, 6]
    assert shaping.weighted_sum(z, [0, 1]).tolist() == [10, 20]
    assert shaping.weighted_sum(z, [0, 0]).tolist() == [0, 0]
    with pytest.raises(ValueError, match="3 weights for 2 rewards"):
        shaping.weighted_sum(z, [1, 1, 1])


def test_weighted_sum_of_raw_rewards_keeps_missing_missing() -> None:
    rewards = torch.tensor([[1.0, math.nan], [math.nan, 2.0]])
    assert shaping.weighted_sum(rewards, [1, 1]).isnan().tolist() == [True, True]
    assert shaping.weighted_sum(rewards, [1, 0]).isnan().tolist() == [False, True]


def test_gdpo_by_hand() -> None:
    # s = 0.5·1 + 1·0 = 0.5, then 1, 1.5: mean 1, std 0.5
    z = torch.tensor([[1.0, 2, 1], [0.0, 0, 1]])
    assert shaping.gdpo(z, [0.5, 1.0]).tolist() == pytest.approx([-1, 0, 1], abs=1e-6)


def test_gdpo_has_unit_std_and_leaves_missing_members_out() -> None:
    z, valid = scores(3), torch.arange(12) % 4 != 0
    total = shaping.gdpo(z.masked_fill(~valid, math.nan), [1, 2, 3], valid)
    assert total[~valid].abs().max() == 0
    torch.testing.assert_close(total[valid].std(), torch.tensor(1.0))
    torch.testing.assert_close(total[valid], shaping.gdpo(z[:, valid], [1, 2, 3]))


def test_gdpo_of_equal_members_is_zero() -> None:
    assert shaping.gdpo(torch.zeros(2, 6), [1, 1]).abs().max() == 0
