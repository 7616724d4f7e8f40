"""Following the ODE of a policy: first order, or second order by a scheduler of diffusers."""

from __future__ import annotations

import torch
from diffusers import DPMSolverMultistepScheduler
from torch import Tensor

from likewise.protocols import Condition, Policy
from likewise.rollout.sampler import Sampler


@torch.no_grad()
def integrate(
    policy: Policy, sampler: Sampler, x: Tensor, condition: Condition, steps: range
) -> Tensor:
    """Follow the ODE through `steps` by first-order steps: latents like x."""
    for t in steps:
        x = sampler.deterministic(x, policy.velocity(x, sampler.sigmas[t], condition), t)
    return x


@torch.no_grad()
def solve(policy: Policy, sampler: Sampler, x: Tensor, condition: Condition, solver: str) -> Tensor:
    """Finished latents, like x, from initial noise.

    Args:
        solver: ``euler`` (DDIM where no flow is predicted), or ``dpm-solver++``: DPM-Solver++(2M),
            arXiv:2211.01095, for flows; one forward per step like the other.

    Raises:
        ValueError: there is no such solver.
    """
    if solver == "euler":
        return integrate(policy, sampler, x, condition, range(sampler.num_steps))
    if solver != "dpm-solver++":
        raise ValueError(f"solver must be euler or dpm-solver++, not {solver!r}")
    scheduler = flow_scheduler(sampler.sigmas)
    for sigma, timestep in zip(sampler.sigmas[:-1], scheduler.timesteps, strict=True):
        x = scheduler.step(policy.velocity(x, sigma, condition), timestep, x).prev_sample
    return x


def flow_scheduler(sigmas: Tensor) -> DPMSolverMultistepScheduler:
    """A scheduler of diffusers for flows, on a schedule of our own.

    Args:
        sigmas: [T+1], falling from at most 1 to 0.
    """
    scheduler = DPMSolverMultistepScheduler(
        prediction_type="flow_prediction",
        use_flow_sigmas=True,
        algorithm_type="dpmsolver++",
        solver_order=2,
        lower_order_final=True,
    )
    steps = len(sigmas) - 1
    scheduler.set_timesteps(steps)
    scheduler.sigmas = sigmas.float().cpu()
    # Steps are found by timestep, which therefore must differ from each other.
    scheduler.timesteps = torch.arange(steps, 0, -1)
    return scheduler
