"""What the tests of every policy share: tasks, one GRPO step, and what a pipeline holds.

Written against :class:`policies.families.Family` alone: nothing here knows a model.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache

import tiny
import torch
from policies.families import Family
from torch import Tensor, nn

from likewise.config.learning import Optimizer
from likewise.config.objectives import Grpo, Nft
from likewise.config.rollout import Rollout
from likewise.policies.common.pipeline_policy import PipelinePolicy
from likewise.rollout.sampler import Sampler
from likewise.rollout.steps import StepPlan
from likewise.rollout.trajectories import Roller, Trajectory
from likewise.trainer.learner import Learner
from likewise.trainer.terms import Trained
from likewise.trainer.update import Update
from likewise.types import Task

STEPS, TRAINED, GROUP, SEED = 3, (0, 1), 2, 11
SIGMA = 0.6  # a level for single velocities
RANK, ALPHA = 4, 10.0  # not equal, since a forgotten alpha is taken to be the rank


@cache
def plain(family: Family) -> PipelinePolicy:
    """A float32 policy without an adapter, shared by all tests: nobody may change it."""
    return family.policy()


def sizes(family: Family) -> list[tuple[int, int]]:
    """Reference sizes (height, width) that no model resizes to the same tokens."""
    side = family.smallest_reference
    return [(side, side + 1), (2 * side, side)]


def a_task(family: Family, *which: int, **changes: str) -> Task:
    """With one reference per number: that one of :func:`sizes`."""
    chosen = [sizes(family)[number] for number in which or (0,)]
    first, *more = (tiny.photo(*size, seed) for seed, size in enumerate(chosen))
    return replace(tiny.a_task(reference=first), more_references=tuple(more), **changes)


def mixed_tasks(family: Family) -> list[Task]:
    """Of different sizes, prompts and, where the model takes several, counts."""
    tasks = [
        a_task(family, 0),
        a_task(family, 1, prompt="the blue teapot in the snow"),
        a_task(family, 0, prompt="a wooden floor"),
    ]
    if family.max_references > 1:
        tasks += [a_task(family, 0, 1), a_task(family, 1, 0, prompt="the beach")]
    return tasks


def sampler(policy: PipelinePolicy) -> Sampler:
    """As `build` makes it for a recipe that suits the model."""
    transition = "flow-sde" if policy.parameterization == "flow" else "ddim"
    return Sampler(policy.sigmas(STEPS, None), transition, 0.7, policy.parameterization)


def velocity(policy: PipelinePolicy, tasks: Sequence[Task]) -> Tensor:
    """At fixed noise, one per task."""
    x = policy.initial_noise(range(len(tasks)))
    return policy.velocity(x, SIGMA, policy.encode(tasks))


def away(found: Tensor, wanted: Tensor) -> float:
    """‖found − wanted‖ / ‖wanted‖."""
    return float((found - wanted).norm() / wanted.norm())


def adapted(policy: PipelinePolicy, targets: str = "all") -> PipelinePolicy:
    """With a LoRA that matters: a fresh one adds nothing."""
    policy.add_lora(RANK, ALPHA, targets, seed=1)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in policy.trainable_parameters():
            noise = torch.randn(parameter.shape, generator=generator).to(parameter.device)
            parameter += 0.06 * noise
    return policy


def rolled_out(policy: PipelinePolicy, tasks: Sequence[Task], seed: int = 5) -> Trajectory:
    """A group of each task, in one batch."""
    indices = tuple(range(len(tasks) * GROUP))
    plan, settings = StepPlan(TRAINED, TRAINED), Rollout(group_size=GROUP, micro_batch=100)
    return Roller(policy, sampler(policy), plan, tasks, settings, indices, seed).draw(indices)


def replay(policy: PipelinePolicy) -> Update:
    return Update(Trained(policy, sampler(policy), Grpo(clip_range=1e-4)))


def learner(policy: PipelinePolicy) -> Learner:
    settings = Optimizer(learning_rate=0.01, ema_decay=0.5)
    return Learner(policy.trainable_parameters(), settings, total_updates=10)


def grpo_step(policy: PipelinePolicy, own: Learner, tasks: Sequence[Task], seed: int = 5) -> float:
    """Roll out, replay with made-up advantages, update. Returns the replay's |ratio − 1|."""
    drawn = rolled_out(policy, tasks, seed)
    how, samples = replay(policy), len(drawn.indices)
    deviation = how.ratio_deviation(drawn)
    advantages = torch.randn(samples, STEPS, generator=torch.Generator().manual_seed(seed))
    how.gradient([drawn], advantages, samples * len(TRAINED))
    assert own.step() > 0  # the norm of the gradient
    return deviation


def nft_step(policy: PipelinePolicy, own: Learner, tasks: Sequence[Task], seed: int = 5) -> float:
    """Draw without noise, learn from the images with made-up advantages. Returns the norm."""
    indices = tuple(range(len(tasks) * GROUP))
    settings = Rollout(group_size=GROUP, micro_batch=100)
    plan, how = StepPlan((), tuple(range(STEPS))), sampler(policy)
    drawn = Roller(policy, how, plan, tasks, settings, indices, seed).draw(indices)
    advantages = torch.randn(len(indices), STEPS, generator=torch.Generator().manual_seed(seed))
    section = Nft(kl=1e-2)
    Update(Trained(policy, how, section)).gradient(
        [drawn], advantages, len(indices) * section.draws
    )
    return own.step()


Step = Callable[[PipelinePolicy, Learner, Sequence[Task]], float]


def snapshot(policy: PipelinePolicy) -> Mapping[str, Tensor]:
    """Every parameter and buffer of every part of the pipeline, by name."""
    found: dict[str, Tensor] = {}
    for part_name, part in policy.pipeline.components.items():
        if isinstance(part, nn.Module):
            for name, value in [*part.named_parameters(), *part.named_buffers()]:
                found |= _plain_tensors(f"{part_name}.{name}", value)
    return {name: value.detach().clone() for name, value in found.items()}


def _plain_tensors(name: str, value: Tensor) -> dict[str, Tensor]:
    """A tensor, or those that a quantised one consists of."""
    if not hasattr(value, "__tensor_flatten__"):
        return {name: value}
    return {f"{name}.{one}": getattr(value, one) for one in value.__tensor_flatten__()[0]}


def changed(policy: PipelinePolicy, before: Mapping[str, Tensor]) -> tuple[set[str], set[str]]:
    """Names of what is not bit-identical to `before`: in the adapter, and anywhere else."""
    own = {id(parameter) for parameter in policy.trainable_parameters()}
    parameters = policy.denoiser.named_parameters()
    adapter = {f"{policy.denoiser_name}.{name}" for name, p in parameters if id(p) in own}
    assert len(adapter) == len(own)
    after = snapshot(policy)
    assert after.keys() == before.keys()
    different = {name for name, value in after.items() if not torch.equal(value, before[name])}
    return different & adapter, different - adapter


def check_step(policy: PipelinePolicy, tasks: Sequence[Task], step: Step = grpo_step) -> float:
    """One step, of which only the adapter may learn. Returns what `step` does."""
    before = snapshot(policy)
    found = step(policy, learner(policy), tasks)
    ours, others = changed(policy, before)
    assert not others
    # A block's dead end may have no gradient (FLUX's last text stream); most must have one.
    assert len(ours) > len(policy.trainable_parameters()) / 2
    return found
