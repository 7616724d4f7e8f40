"""z-scores and advantages: numbers by hand, invariances, and what missing means."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from likewise.algorithm import credit
from likewise.algorithm.shaping import sars
from likewise.algorithm.timeweights import constant, per_reward, tdw

NAN = math.nan


def zscore(rewards: list[float] | Tensor, valid: list[bool] | None = None, G: int = 4) -> Tensor:
    rewards = torch.as_tensor(rewards)
    mask = torch.ones(len(rewards), dtype=torch.bool) if valid is None else torch.tensor(valid)
    return credit.group_zscore(rewards, mask, G)


def test_zscore_by_hand() -> None:
    # 1, 2, 3, 6: mean 3, unbiased variance (4 + 1 + 0 + 9)/3
    std = math.sqrt(14 / 3)
    assert zscore([1.0, 2, 3, 6]).tolist() == pytest.approx([-2 / std, -1 / std, 0, 3 / std])


def test_missing_samples_get_zero_and_leave_the_statistics() -> None:
    # Of 1, ·, 3, ·: mean 2, std √2.
    expected = [-1 / math.sqrt(2), 0, 1 / math.sqrt(2), 0]
    for absent in (0.0, 1e30, NAN, math.inf):
        z = zscore([1.0, absent, 3.0, -absent], [True, False, True, False])
        assert z.tolist() == pytest.approx(expected)


def test_non_finite_is_missing_even_where_declared_valid() -> None:
    assert zscore([1.0, NAN, 3.0, -math.inf]).tolist() == pytest.approx(
        [-1 / math.sqrt(2), 0, 1 / math.sqrt(2), 0]
    )


@pytest.mark.parametrize("valid", [[False] * 4, [False, True, False, False]])
def test_fewer_than_two_valid_samples_say_nothing(valid: list[bool]) -> None:
    assert zscore([1.0, 2, 3, 4], valid).tolist() == [0] * 4


@pytest.mark.parametrize("value", [0.0, 0.1, 100.3, 12345.678, -1e6])
def test_constant_rewards_give_zero_at_any_size(value: float) -> None:
    assert zscore([value] * 12, G=12).tolist() == [0] * 12


@pytest.mark.parametrize("value", [100.3, 12345.678, -1e6])
def test_constant_rewards_with_missing_samples_give_zero(value: float) -> None:
    rewards, valid = [value] * 9 + [NAN, 0.0, 1e9], [True] * 9 + [False] * 3
    assert zscore(rewards, valid, G=12).tolist() == [0] * 12


def test_the_floor_is_in_units_of_the_reward() -> None:
    rewards = torch.tensor([0.0, 1e-3, 2e-3, 3e-3])  # std 1.29e-3
    valid = torch.ones(4, dtype=torch.bool)
    assert credit.group_zscore(rewards, valid, 4, floor=1.2e-3).abs().min() > 0
    assert credit.group_zscore(rewards, valid, 4, floor=1.4e-3).abs().max() == 0


def test_zscore_ignores_shift_and_scale_and_follows_the_sign() -> None:
    rewards = torch.randn(12, generator=torch.Generator().manual_seed(0))
    z = zscore(rewards)
    torch.testing.assert_close(zscore(rewards * 50 + 7), z, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(zscore(-rewards), -z)
    torch.testing.assert_close(zscore(rewards.double()).float(), z)
    assert zscore(rewards.bfloat16()).dtype == torch.float32


def test_groups_do_not_touch_each_other() -> None:
    rewards = torch.tensor([1.0, 2, 4, 8, 100, 700, 200, 400])
    z = zscore(rewards)
    torch.testing.assert_close(z[:4], zscore(rewards[:4]))
    torch.testing.assert_close(z[4:], zscore(rewards[4:]))
    torch.testing.assert_close(zscore(rewards.roll(4)), z.roll(4))


def test_each_group_has_mean_zero_and_std_one() -> None:
    z = zscore(torch.rand(24, generator=torch.Generator().manual_seed(1)), G=8).reshape(3, 8)
    torch.testing.assert_close(z.mean(1), torch.zeros(3), atol=1e-6, rtol=0)
    torch.testing.assert_close(z.std(1), torch.ones(3))


@pytest.mark.parametrize("rewards, valid, G", [(6, 6, 4), (4, 3, 4), (4, 4, 1), (4, 4, 0)], ids=str)
def test_zscore_refuses(rewards: int, valid: int, G: int) -> None:
    with pytest.raises(ValueError):
        credit.group_zscore(torch.zeros(rewards), torch.ones(valid, dtype=torch.bool), G)


def test_complete_needs_every_reward_finite() -> None:
    rewards = torch.tensor([[1.0, 2, NAN, 4, 5], [1.0, 2, 3, math.inf, 5]])
    valid = torch.tensor([[True, True, True, True, False], [True, False, True, True, True]])
    assert credit.complete(rewards, valid).tolist() == [True, False, False, False, False]
    with pytest.raises(ValueError, match="shape"):
        credit.complete(rewards, valid[0])


# ── advantages ──


def test_advantages_by_hand() -> None:
    z = torch.tensor([[1.0, -2.0], [3.0, 0.5]])
    weights = torch.tensor([[0.7, 0.3, 0.5], [0.3, 0.7, 0.5]])
    A = credit.advantages(z, weights, torch.tensor([0.25, -0.5]), clip=5)
    expected = [[0.7 + 0.9 + 0.25, 0.3 + 2.1 + 0.25, 2.25], [-1.75, -0.75, -1.25]]
    torch.testing.assert_close(A, torch.tensor(expected))


def test_advantages_are_clamped_after_the_shaping_term() -> None:
    z, weights = torch.tensor([[4.0, -4.0, 4.9]]), torch.ones(1, 2)
    A = credit.advantages(z, weights, torch.tensor([3.0, -3.0, 0.05]), clip=5)
    torch.testing.assert_close(A, torch.tensor([[5.0, 5], [-5, -5], [4.95, 4.95]]))


def test_weights_may_differ_between_samples() -> None:
    z, weights = torch.tensor([[1.0, 1], [0, 0]]), torch.rand(2, 2, 3)
    A = credit.advantages(z, weights, torch.zeros(2), clip=5)
    torch.testing.assert_close(A, weights[0])


def test_a_combined_reward_passes_through_as_it_is() -> None:
    combined = torch.tensor([1.0, -2.0])
    A = credit.advantages(torch.randn(2, 2), torch.zeros(2, 3), combined, clip=5)
    torch.testing.assert_close(A, combined[:, None].expand(2, 3))


def test_samples_that_are_not_valid_get_zero() -> None:
    valid = torch.tensor([True, False])
    A = credit.advantages(torch.ones(2, 2), torch.ones(2, 3), torch.ones(2), 5, valid)
    assert A.tolist() == [[3, 3, 3], [0, 0, 0]]


def test_a_sample_missing_one_reward_pulls_nobody() -> None:
    """The whole way from rewards to A equals that of a group without the sample."""
    rewards = torch.tensor([[1.0, 2, 9, 4, 3], [0.9, 0.1, NAN, 0.5, 0.2]])
    valid = torch.ones(2, 5, dtype=torch.bool)

    def through(rewards: Tensor, valid: Tensor) -> Tensor:
        mask = credit.complete(rewards, valid)
        z = torch.stack([credit.group_zscore(r, mask, rewards.shape[1]) for r in rewards])
        weights = per_reward(tdw(25), ["prompt", "identity"])
        return credit.advantages(z, weights, sars(z, 0.4), 5, mask)

    A, others = through(rewards, valid), [0, 1, 3, 4]
    assert A[2].abs().max() == 0
    torch.testing.assert_close(A[others], through(rewards[:, others], valid[:, others]))


@pytest.mark.parametrize(
    "call",
    [
        lambda z, w: credit.advantages(z, w[:1], z[0], 5),
        lambda z, w: credit.advantages(z, w[0], z[0], 5),
        lambda z, w: credit.advantages(z, torch.zeros(2, 4, 7), z[0], 5),
        lambda z, w: credit.advantages(z, w, z[0, :2], 5),
        lambda z, w: credit.advantages(z, w, z[0], 0),
        lambda z, w: credit.advantages(z, w, z[0], 5, torch.ones(2, dtype=torch.bool)),
    ],
)
def test_advantages_refuse(call: Callable) -> None:
    with pytest.raises(ValueError):
        call(torch.zeros(2, 3), per_reward(constant(7), ["prompt", "identity"]))
