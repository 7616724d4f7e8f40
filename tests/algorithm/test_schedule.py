"""Noise levels against hand-computed numbers and against diffusers' scheduler, bit by bit."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from diffusers.pipelines.flux.pipeline_flux_kontext import calculate_shift

from likewise.algorithm import schedule

STEPS = (1, 2, 4, 6, 8, 10, 25, 28, 50, 100)


def stock(num_steps: int, mu: float | None = None, **config) -> FlowMatchEulerDiscreteScheduler:
    """diffusers' scheduler, set up as FluxKontextPipeline does."""
    scheduler = FlowMatchEulerDiscreteScheduler(**config)
    scheduler.set_timesteps(sigmas=np.linspace(1.0, 1 / num_steps, num_steps), mu=mu)
    return scheduler


def test_shifted_sigmas_by_hand() -> None:
    # σ_lin = 1, ¾, ½, ¼, 0 with shift 3: 3σ/(1 + 2σ)
    expected = [1, 2.25 / 2.5, 1.5 / 2, 0.75 / 1.5, 0]
    assert schedule.shifted_sigmas(4, 3.0).tolist() == pytest.approx(expected)


@pytest.mark.parametrize("num_steps", STEPS)
@pytest.mark.parametrize("shift", [1.0, 1.58, 3.0, 5.0])
def test_static_shift_is_diffusers(num_steps: int, shift: float) -> None:
    ours = schedule.shifted_sigmas(num_steps, shift)
    assert ours.dtype == torch.float32 and ours.shape == (num_steps + 1,)
    assert torch.equal(ours, stock(num_steps, shift=shift).sigmas)


def test_mu_passes_through_its_two_points_and_between() -> None:
    assert schedule.resolution_mu(256) == pytest.approx(0.5)
    assert schedule.resolution_mu(4096) == pytest.approx(1.15)
    assert schedule.resolution_mu(2176) == pytest.approx(0.825)  # half-way
    assert schedule.resolution_mu(20, 10, 30, 1.0, 3.0) == pytest.approx(2.0)
    assert schedule.resolution_mu(777) == calculate_shift(777)


@pytest.mark.parametrize("num_steps", STEPS)
@pytest.mark.parametrize("tokens", [64, 256, 1024, 4096, 6889])
def test_dynamic_shift_equals_static_shift_of_exp_mu(num_steps: int, tokens: int) -> None:
    mu = schedule.resolution_mu(tokens)
    dynamic = stock(num_steps, mu, use_dynamic_shifting=True).sigmas
    torch.testing.assert_close(schedule.shifted_sigmas(num_steps, math.exp(mu)), dynamic)


@pytest.mark.parametrize("num_steps", [1, 25])
def test_the_grid_falls_from_one_to_zero(num_steps: int) -> None:
    grid = schedule.shifted_sigmas(num_steps, 3.0)
    assert grid[0] == 1 and grid[-1] == 0 and bool((grid.diff() < 0).all())


def test_timestep_is_a_thousand_sigma() -> None:
    sigmas = schedule.shifted_sigmas(25, 3.0)
    assert torch.equal(schedule.to_timestep(sigmas)[:-1], stock(25, shift=3.0).timesteps)
    assert schedule.to_timestep(torch.tensor(0.75)).item() == 750


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_model_time_is_what_the_stock_pipeline_passes(dtype: torch.dtype) -> None:
    expected = stock(25, shift=3.0).timesteps.to(dtype) / 1000
    ours = schedule.model_time(schedule.shifted_sigmas(25, 3.0)[:-1], dtype)
    assert ours.dtype == dtype and torch.equal(ours, expected)


@pytest.mark.parametrize(
    "call",
    [
        lambda: schedule.shifted_sigmas(0, 3.0),
        lambda: schedule.shifted_sigmas(4, 0.0),
        lambda: schedule.shifted_sigmas(4, math.nan),
        lambda: schedule.resolution_mu(0),
        lambda: schedule.resolution_mu(64, 100, 100),
    ],
)
def test_bad_arguments_are_refused(call) -> None:
    with pytest.raises(ValueError):
        call()
