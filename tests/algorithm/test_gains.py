"""Per-step gains: numbers by hand, what is missing, and turning points."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from likewise.algorithm.credit import group_zscore
from likewise.algorithm.gains import gain_zscore, step_gains, with_turning_points

NAN = math.nan
STEPS = (1, 2, 3)


def path(*rewards: float) -> Tensor:
    """R of one reward and sample at T = 4: unknown before step 0, then as given, [1, 1, 5]."""
    return torch.tensor([[[NAN, *rewards]]])


def turned(*paths: tuple[float, ...], final: list[float] | None = None) -> list[list[float]]:
    """Gains of samples [B, 3] with turning points; each ends with R before the last step's end."""
    finished = torch.cat([path(*one) for one in paths], dim=1)
    ends = finished[..., -1] if final is None else torch.tensor([final])
    valid = torch.ones(len(paths), dtype=torch.bool)
    return with_turning_points(finished, ends, STEPS, valid)[0].tolist()


def test_gains_are_differences_along_the_way() -> None:
    finished = torch.tensor([[[1.0, 3.0, NAN, 4.0, 4.5]]])
    assert step_gains(finished, (0, 3)).tolist() == [[[2.0, 0.5]]]
    assert step_gains(finished, (0, 1, 2)).isnan().tolist() == [[[False, True, True]]]


def test_z_is_over_samples_and_steps_at_once() -> None:
    gains = torch.tensor([[[1.0, 0.0], [2.0, 3.0]]])  # K = 1, a group of 2, two steps
    std = math.sqrt((0.25 + 2.25 + 0.25 + 2.25) / 3)
    z = gain_zscore(gains, torch.ones(2, dtype=torch.bool), 2, False)
    expected = torch.tensor([[[-0.5, -1.5], [0.5, 1.5]]]) / std
    torch.testing.assert_close(z, expected)


def test_groups_and_rewards_are_apart() -> None:
    gains = torch.randn(2, 8, 3, generator=torch.Generator().manual_seed(1))
    valid = torch.ones(8, dtype=torch.bool)
    whole = gain_zscore(gains, valid, 4, False)
    for k in range(2):
        for group in (slice(0, 4), slice(4, 8)):
            own = gains[k, group]
            torch.testing.assert_close(whole[k, group], (own - own.mean()) / own.std())
    moved = gains * torch.tensor([3.0, 0.1])[:, None, None] + 7.0
    torch.testing.assert_close(gain_zscore(moved, valid, 4, False), whole, rtol=1e-4, atol=1e-4)


def test_by_step_each_step_is_a_reward_of_its_own() -> None:
    gains = torch.randn(2, 8, 3, generator=torch.Generator().manual_seed(1))
    gains[0, 1, 0] = gains[1, 6, 2] = NAN
    valid = torch.tensor([True, False] + [True] * 6)
    z = gain_zscore(gains, valid, 4, True)
    for k in range(2):
        for t in range(3):
            torch.testing.assert_close(z[k, :, t], group_zscore(gains[k, :, t], valid, 4))


@pytest.mark.parametrize("by_step", [False, True])
def test_with_one_step_z_is_that_of_the_rewards(by_step: bool) -> None:
    """The image before it is one for the group, so that it drops out."""
    rewards = torch.tensor([1.0, 2, 3, 6, 0, 0, 5, 1])
    before = torch.tensor([2.0] * 4 + [3.0] * 4)
    valid = torch.tensor([True] * 6 + [False] + [True])
    z = gain_zscore((rewards - before)[None, :, None], valid, 4, by_step)
    torch.testing.assert_close(z[0, :, 0], group_zscore(rewards, valid, 4))


def test_missing_samples_get_zero_and_leave_the_statistics() -> None:
    gains = torch.tensor([[[1.0, 0], [2, 3], [9, NAN], [8, 8]]])
    valid = torch.tensor([True, True, False, False])
    z = gain_zscore(gains, valid, 4, False)
    assert z[0, 2:].tolist() == [[0, 0], [0, 0]]
    torch.testing.assert_close(z[:, :2], gain_zscore(gains[:, :2], valid[:2], 2, False))


def test_gains_below_the_floor_say_nothing() -> None:
    gains = 1e-8 * torch.randn(1, 4, 2, generator=torch.Generator().manual_seed(2))
    assert gain_zscore(gains, torch.ones(4, dtype=torch.bool), 4, False).eq(0).all()


# ── turning points ──


def test_a_turn_takes_the_rest_of_the_way() -> None:
    """Falls by 1, then rises by 2 and 3: step 2 turns to the trend of the whole, which is +4."""
    assert turned((5.0, 4.0, 6.0, 9.0)) == [[-1.0, 5.0, 3.0]]
    assert turned((5.0, 6.0, 4.0, 1.0)) == [[1.0, -5.0, -3.0]]


def test_the_first_step_turns_if_the_rest_agrees() -> None:
    assert turned((5.0, 6.0, 5.5, 9.0)) == [[4.0, -0.5, 3.5]]
    assert turned((5.0, 6.0, 6.0, 5.5)) == [[1.0, 0.0, -0.5]]  # what follows falls


@pytest.mark.parametrize(
    ("way", "gains"),
    [
        ((5.0, 4.0, 7.0, 6.0), [-1.0, 3.0, -1.0]),  # step 2 turns, but what follows falls
        ((5.0, 4.0, 4.0, 6.0), [-1.0, 0.0, 2.0]),  # after no change nothing turns
        ((5.0, 7.0, 6.0, 5.0), [2.0, -1.0, -1.0]),  # and nothing where all comes to nothing
    ],
)
def test_what_is_no_turning_point(way: tuple[float, ...], gains: list[float]) -> None:
    assert turned(way) == [gains]


def test_the_last_step_turns_only_where_noise_follows() -> None:
    """After it, steps that are random and not trained may go on: up to 9 here."""
    assert turned((5.0, 6.0, 5.0, 6.0)) == [[1.0, -1.0, 1.0]]
    assert turned((5.0, 6.0, 5.0, 6.0), final=[9.0]) == [[4.0, -1.0, 4.0]]


def test_rising_and_falling_turns_are_kept_alike() -> None:
    rises, rises_more, falls = (5.0, 4.0, 6.0, 9.0), (5.0, 4.0, 6.0, 19.0), (5.0, 6.0, 4.0, 1.0)
    assert turned(rises, falls) == [[-1.0, 5.0, 3.0], [1.0, -5.0, -3.0]]
    assert turned(rises, rises_more, falls) == [
        [-1.0, 2.0, 3.0],  # the lesser of two rises keeps its gain
        [-1.0, 15.0, 13.0],
        [1.0, -5.0, -3.0],
    ]
    assert turned(rises, rises_more) == [[-1.0, 5.0, 3.0], [-1.0, 15.0, 13.0]]


def test_missing_samples_do_not_turn_or_count() -> None:
    finished = torch.cat([path(5, 4, 6, 9), path(5, NAN, 6, 9), path(5, 4, 6, 19)], dim=1)
    valid = torch.tensor([True, False, False])
    found = with_turning_points(finished, finished[..., -1], STEPS, valid)
    assert found[0, 0].tolist() == [-1, 5, 3] and found[0, 2].tolist() == [-1, 2, 13]
