"""Several updates of one iteration: what the clip does from the second one on, written out.

The session draws, scores, gives credit and learns; the derivation takes the stored steps and the
advantages and needs neither autograd nor torch's AdamW. Velocities are v = x·Wᵀ + σ·b + c, Flow-SDE
has mean = x·(…) + k·v, and log p is a mean over the D numbers of a latent, so

    ∂(−A·ratio)/∂v = −A·ratio·k·(x' − mean)/(D·std²)    or 0 where the clip silences the term.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import runs
import torch
from accelerate import Accelerator
from rolling import LinearPolicy, sampler, some_tasks
from torch import Tensor

from likewise.config import Recipe
from likewise.records.run_directory import RunDirectory
from likewise.rewards.function import FunctionReward
from likewise.rollout.steps import StepPlan, plan_steps
from likewise.rollout.trajectories import Trajectory
from likewise.trainer.assignment import Assignment, assign_credit
from likewise.trainer.clock import Clock
from likewise.trainer.metrics import Numbers
from likewise.trainer.plugins import Parts
from likewise.trainer.processes import Processes
from likewise.trainer.session import Session

CLIP, RATE, DECAY, NORM, EPS = 4e-3, 0.01, 0.1, 0.05, 1e-7
STEPS, NOISE = 4, 0.7  # T and a
Drawn = Sequence[Sequence[Trajectory]]


def a_recipe(split: str, updates: int) -> Recipe:
    return runs.tiny_recipe(
        "not read: the policy is linear",
        rollout={"tasks": 4, "group_size": 6, "num_steps": STEPS, "micro_batch": 5},
        objective={"clip_range": CLIP} if updates > 1 else {},
        optimizer={
            "learning_rate": RATE,
            "weight_decay": DECAY,
            "max_grad_norm": NORM,
            "eps": EPS,
            "updates_per_iteration": updates,
            **({"split": split} if updates > 1 else {}),
        },
    )


def one_iteration(
    folder: Path, split: str, updates: int
) -> tuple[LinearPolicy, Drawn, Assignment, Numbers]:
    """The policy after an iteration, and what it drew before; credit and numbers of the update."""
    recipe, policy = a_recipe(split, updates), LinearPolicy()
    rewards = {name: FunctionReward(getattr(runs, name)) for name in recipe.rewards}
    tasks = some_tasks(4)
    parts = Parts(policy, sampler(policy, STEPS), rewards, tasks.__getitem__, [], {})
    run = RunDirectory.create(folder / "run", recipe, {})
    session = Session(recipe, run, parts, Processes(Accelerator(cpu=True)))
    plan: StepPlan = plan_steps(recipe.rollout, recipe.seed, 0)
    rollout = session.rollouts.draw(1, tasks, plan, Clock(torch.device("cpu")))
    assert rollout is not None
    drawn, scores = rollout
    credit = assign_credit(scores.values, scores.valid, recipe, plan, 1)
    numbers = session.updates.learn(1, drawn, credit, plan)
    assert numbers is not None
    return policy, drawn, credit, numbers


@dataclass
class Derived:
    """Parameters after the derived updates, and what was found on the way, by update."""

    weight: Tensor
    bias: Tensor
    outside: list[int]
    silenced: list[int]
    norms: list[float]


def derive(drawn: Drawn, advantages: Tensor, clip: float) -> Derived:
    start = LinearPolicy()
    now = [p.detach().double() for p in (start.weight, start.bias)]
    m, v = ([torch.zeros_like(one) for one in now] for _ in range(2))
    found = Derived(*now, [], [], [])
    for number, update in enumerate(drawn, start=1):
        slopes, outside, silenced = slopes_of(update, advantages, now[0], now[1], clip)
        norm = math.sqrt(sum(float(one.square().sum()) for one in slopes))
        for i, slope in enumerate(slopes):
            g = slope * min(1.0, NORM / (norm + 1e-6))  # as torch clips
            m[i], v[i] = 0.9 * m[i] + 0.1 * g, 0.999 * v[i] + 0.001 * g**2
            root = (v[i] / (1 - 0.999**number)).sqrt()
            now[i] = now[i] * (1 - RATE * DECAY) - RATE * m[i] / (1 - 0.9**number) / (root + EPS)
        found.outside.append(outside)
        found.silenced.append(silenced)
        found.norms.append(norm)
    found.weight, found.bias = now
    return found


def slopes_of(
    update: Sequence[Trajectory], advantages: Tensor, weight: Tensor, bias: Tensor, clip: float
) -> tuple[list[Tensor], int, int]:
    """Gradient of the update's loss by W and b; terms outside the clip range, and silenced ones."""
    sigmas = LinearPolicy().sigmas(STEPS, None).double()
    in_weight, in_bias = torch.zeros_like(weight), torch.zeros_like(bias)
    terms = outside = silenced = 0
    for trajectory in update:
        for stored in trajectory.stored:
            t, sigma = stored.step, sigmas[stored.step]
            dt = sigmas[t + 1] - sigma
            s2 = NOISE**2 * sigma / (1 - min(sigma, sigmas[1]))
            k, std2 = (1 + s2 * (1 - sigma) / (2 * sigma)) * dt, s2 * -dt
            for b, index in enumerate(trajectory.indices):
                x, following = stored.x[b].double(), stored.following[b].double()
                velocity = x @ weight.T + sigma * bias + trajectory.condition.vectors[b].double()  # type: ignore[attr-defined]
                miss = following - (x * (1 + s2 / (2 * sigma) * dt) + k * velocity)
                log_prob = -(miss**2).mean() / (2 * std2) - (2 * math.pi * std2).log() / 2
                ratio = float((log_prob - stored.log_prob[b].double()).exp())
                A = float(advantages[index, t])
                terms += 1
                outside += abs(ratio - 1) > clip
                if (A > 0 and ratio > 1 + clip) or (A < 0 and ratio < 1 - clip):
                    silenced += 1
                    continue
                by_velocity = -A * ratio * k * miss / (miss.numel() * std2)
                in_weight += by_velocity.T @ x
                in_bias += sigma * by_velocity.sum(0)
    return [in_weight / terms, in_bias / terms], outside, silenced


@pytest.mark.parametrize("split", ["tasks", "samples"])
def test_the_second_update_is_clipped_as_derived(split: str, tmp_path: Path) -> None:
    policy, drawn, credit, numbers = one_iteration(tmp_path, split, updates=2)
    terms = credit.advantages.shape[0] // 2 * len(drawn[0][0].stored)
    wanted = derive(drawn, credit.advantages, CLIP)
    assert wanted.outside[0] == 0  # the first update is on-policy
    assert terms // 8 < wanted.silenced[1] < wanted.outside[1] < terms  # of all kinds in the second
    assert min(wanted.norms) > NORM  # and the gradient's norm is clipped too

    start = LinearPolicy()
    for ours, theirs, before in (
        (policy.weight, wanted.weight, start.weight),
        (policy.bias, wanted.bias, start.bias),
    ):
        assert (theirs - before).abs().max() > RATE
        torch.testing.assert_close(ours.double(), theirs, rtol=0, atol=1e-4 * RATE)  # 1e-5 apart
    assert numbers["update/steps"] == 2
    assert numbers["update/clip_fraction"] == pytest.approx(wanted.outside[1] / (2 * terms))
    assert numbers["update/silenced_fraction"] == pytest.approx(wanted.silenced[1] / (2 * terms))
    assert numbers["update/grad_norm"] == pytest.approx(sum(wanted.norms) / 2, rel=1e-4)

    unclipped = derive(drawn, credit.advantages, math.inf)
    assert (unclipped.weight - wanted.weight).abs().max() > 0.02 * RATE  # the clip mattered


def test_a_single_update_has_nothing_to_clip(tmp_path: Path) -> None:
    _, _, _, numbers = one_iteration(tmp_path, "tasks", updates=1)
    assert numbers["update/ratio"] == 1.0 and numbers["update/ratio_deviation"] == 0.0
    assert numbers["update/clip_fraction"] == 0.0


def test_credit_is_that_of_whole_groups_however_they_are_split(tmp_path: Path) -> None:
    found: list[Any] = [
        one_iteration(tmp_path / f"{split}-{updates}", split, updates)
        for split, updates in (("tasks", 1), ("tasks", 2), ("samples", 3))
    ]
    for _, _, credit, _ in found[1:]:
        assert torch.equal(credit.advantages, found[0][2].advantages)
        assert torch.equal(credit.z, found[0][2].z)
    numbers = [[index % 6 for one in update for index in one.indices] for update in found[2][1]]
    assert numbers == [[0, 1] * 4, [2, 3] * 4, [4, 5] * 4]  # two samples of each of four groups
