"""Drawing without noise: first order, and second order as stock diffusers computes it."""

from __future__ import annotations

import pytest
import torch
from diffusers import DPMSolverMultistepScheduler
from rolling import LinearPolicy, sampler, some_tasks
from torch import Tensor

from likewise.rollout.sampler import Sampler
from likewise.rollout.solvers import integrate, solve


def start(policy: LinearPolicy) -> tuple[Tensor, object]:
    return policy.initial_noise([0, 1]), policy.encode(some_tasks(2))


def test_the_second_order_solver_is_the_stock_one() -> None:
    """On the schedule that diffusers makes, through its own public calls."""
    policy = LinearPolicy(torch.float64)
    stock = DPMSolverMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=2.0
    )
    stock.set_timesteps(8)
    x, condition = start(policy)
    ours = solve(policy, Sampler(stock.sigmas, "flow-sde", 0.7), x, condition, "dpm-solver++")
    for sigma, timestep in zip(stock.sigmas[:-1], stock.timesteps, strict=True):
        x = stock.step(policy.velocity(x, sigma, condition), timestep, x).prev_sample
    torch.testing.assert_close(ours, x)


def test_the_second_order_solver_is_nearer_to_the_flow() -> None:
    """With as many forwards: errors against 1,000 Euler steps."""
    policy = LinearPolicy(torch.float64)
    x, condition = start(policy)
    exact = solve(policy, sampler(policy, 1000), x, condition, "euler")
    errors = {}
    for steps in (8, 16):
        policy.calls.clear()
        for solver in ("euler", "dpm-solver++"):
            found = solve(policy, sampler(policy, steps), x, condition, solver)
            errors[solver, steps] = float((found - exact).norm())
        assert len(policy.calls) == 2 * steps
        assert errors["dpm-solver++", steps] < 0.5 * errors["euler", steps]
    assert errors["dpm-solver++", 16] < 0.4 * errors["dpm-solver++", 8]


def test_euler_is_the_samplers_own() -> None:
    policy = LinearPolicy()
    x, condition = start(policy)
    how = sampler(policy, 5)
    assert torch.equal(
        solve(policy, how, x, condition, "euler"), integrate(policy, how, x, condition, range(5))
    )


def test_another_solver_is_refused() -> None:
    policy = LinearPolicy()
    x, condition = start(policy)
    with pytest.raises(ValueError, match="not 'heun'"):
        solve(policy, sampler(policy, 2), x, condition, "heun")
