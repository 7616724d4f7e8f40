"""Shares of steps from variances inside groups, against made-up rewards with known causes."""

from __future__ import annotations

import pytest
import torch

from likewise.algorithm.shares import step_shares, variances_in_groups


def test_variances_are_those_inside_groups() -> None:
    values = torch.tensor([[1.0, 3.0, 10.0, 14.0], [0.0, 0.0, 5.0, 5.0]])
    valid = torch.ones(2, 4, dtype=torch.bool)
    assert variances_in_groups(values, valid, 2).tolist() == [(2 + 8) / 2, 0.0]


def test_missing_samples_do_not_count() -> None:
    values = torch.tensor([[1.0, 3.0, 1e9, 7.0, 9.0, torch.nan], [1.0, 2, 3, 4, 5, 6]])
    valid = torch.tensor([[True, True, False, True, True, True], [False] * 6])
    found = variances_in_groups(values, valid, 3)
    assert found[0] == 2 and found[1].isnan()


def test_windows_of_one_step_give_the_variances_themselves() -> None:
    found = step_shares([(0,), (1,), (2,), (0,)], torch.tensor([[6.0, 2.0, 1.0, 4.0]]), 4)
    assert found[0].tolist() == pytest.approx([5 / 8, 2 / 8, 1 / 8, 0])


def test_steps_of_a_window_share_its_variance() -> None:
    """Causes [4, 2, 0] in windows (0, 1) and (1, 2): variances 6 and 2, parts 3, (3 + 1)/2, 1."""
    found = step_shares([(0, 1), (1, 2)], torch.tensor([[6.0, 2.0]]), 3)
    assert found[0].tolist() == pytest.approx([3 / 6, 2 / 6, 1 / 6])


def test_unknown_variances_are_left_out() -> None:
    variances = torch.tensor([[6.0, torch.nan, 2.0], [0.0, 0.0, 0.0]])
    found = step_shares([(0,), (0,), (1,)], variances, 2)
    assert found[0].tolist() == pytest.approx([0.75, 0.25])
    assert found[1].tolist() == [0, 0]


def test_a_known_profile_is_found_again() -> None:
    """Rewards that are sums of independent noise of each step, drawn as a rollout draws them."""
    generator = torch.Generator().manual_seed(0)
    causes = torch.tensor([[0.9, 0.5, 0.1, 0.1], [0.1, 0.2, 0.6, 0.8]])
    windows, variances = [], []
    for iteration in range(40):
        step = iteration % 4
        noise = torch.randn(2, 200 * 12, generator=generator) * causes[:, step, None]
        task = torch.randn(2, 200, 1, generator=generator).expand(2, 200, 12).flatten(1)
        windows.append((step,))
        valid = torch.ones(2, 200 * 12, dtype=torch.bool)
        variances.append(variances_in_groups(noise + 5 * task, valid, 12))
    found = step_shares(windows, torch.stack(variances, 1), 4)
    wanted = causes.square().double()
    torch.testing.assert_close(found, wanted / wanted.sum(1, keepdim=True), atol=0.01, rtol=0)
