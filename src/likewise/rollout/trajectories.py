"""Drawing images at random, and keeping what an update needs to replay them (docs/method.md §1)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from likewise.config.rollout import Rollout
from likewise.protocols import Condition, Policy
from likewise.rollout.layout import Rows
from likewise.rollout.sampler import Sampler
from likewise.rollout.steps import StepPlan
from likewise.seeding import derive_seed
from likewise.types import Task


@dataclass(frozen=True)
class StoredStep:
    """One trained step of a micro-batch of b samples, as it was drawn.

    Attributes:
        step: True index t in the sampling schedule.
        x, following: Latents x_t and x_{t+1}, float32 [b, *latent], as they are replayed.
        mean: Mean of the transition, like x; None unless asked for (GRPO-Guard needs it).
        log_prob: Of `following`, float32 [b].
    """

    step: int
    x: Tensor
    following: Tensor
    mean: Tensor | None
    log_prob: Tensor


@dataclass(frozen=True)
class Trajectory:
    """A micro-batch of pictures on their way from noise.

    Attributes:
        rows: Which rows of the iteration these are.
        condition: Their tasks, encoded.
        stored: Trained steps, ascending.
        latents: Finished, float32 [b, *latent].
    """

    rows: Rows
    condition: Condition
    stored: tuple[StoredStep, ...]
    latents: Tensor


class Roller:
    """Draws the micro-batches of one iteration.

    Prompts and references are encoded once per task. Where all noise of a group comes after some
    deterministic steps, those are computed once per task too.

    Args:
        tasks: All tasks of the iteration; only those in `rows` are touched.
        settings: The recipe's section.
        rows: Those that this process draws.
        seed: Of the run and iteration: :func:`iteration_seed`.
        keep_means: Keep the means of trained steps too.
    """

    def __init__(
        self,
        policy: Policy,
        sampler: Sampler,
        plan: StepPlan,
        tasks: Sequence[Task],
        settings: Rollout,
        rows: Sequence[int],
        seed: int,
        keep_means: bool = False,
    ) -> None:
        self.policy, self.sampler, self.plan, self.settings = policy, sampler, plan, settings
        self.seed, self.keep_means = seed, keep_means
        numbers = sorted({row // settings.group_size for row in rows})
        self.places = {number: place for place, number in enumerate(numbers)}
        self.condition = policy.encode([tasks[number] for number in numbers])
        self.fork = min(plan.stochastic) if settings.shared_noise else 0
        self.starts = self._shared_starts() if settings.shared_noise and numbers else None

    @torch.no_grad()
    def draw(self, rows: Rows) -> Trajectory:
        """Draw these rows in one batch."""
        places = [self.places[row // self.settings.group_size] for row in rows]
        condition = self.condition.select(places)
        if self.starts is None:
            x = self.policy.initial_noise([self._seed(row, "initial noise") for row in rows])
        else:
            x = self.starts[places]
        kept: list[StoredStep] = []
        for t in range(self.fork, self.sampler.num_steps):
            v = self.policy.velocity(x, self.sampler.sigmas[t], condition)
            if t in self.plan.stochastic:
                step = self._step(x, v, t, rows)
                kept += [step] if t in self.plan.trained else []
                x = step.following
            else:
                x = self.sampler.deterministic(x, v, t)
        return Trajectory(rows, condition, tuple(kept), x)

    def _step(self, x: Tensor, v: Tensor, t: int, rows: Rows) -> StoredStep:
        noise = self.policy.initial_noise([self._seed(row, "step", t) for row in rows])
        drawn = self.sampler.step(x, v, t, noise)
        mean = drawn.mean if self.keep_means else None
        return StoredStep(t, x, drawn.following, mean, drawn.log_prob())

    @torch.no_grad()
    def _shared_starts(self) -> Tensor:
        """Latents of every task at the first stochastic step, [tasks, *latent]."""
        seeds = [derive_seed(self.seed, "initial noise", number) for number in self.places]
        noise = self.policy.initial_noise(seeds)
        if self.fork == 0:
            return noise
        parts, micro_batch = [], self.settings.micro_batch
        for start in range(0, len(noise), micro_batch):
            part = slice(start, start + micro_batch)
            condition, x = self.condition.select(part), noise[part]
            parts.append(integrate(self.policy, self.sampler, x, condition, range(self.fork)))
        return torch.cat(parts)

    def _seed(self, row: int, *purpose: str | int) -> int:
        return derive_seed(self.seed, *purpose, *divmod(row, self.settings.group_size))


def iteration_seed(seed: int, iteration: int) -> int:
    """What every random number of an iteration's pictures is derived from."""
    return derive_seed("rollout", seed, iteration)


@torch.no_grad()
def integrate(
    policy: Policy, sampler: Sampler, x: Tensor, condition: Condition, steps: range
) -> Tensor:
    """Follow the ODE through `steps`: latents like x."""
    for t in steps:
        x = sampler.deterministic(x, policy.velocity(x, sampler.sigmas[t], condition), t)
    return x


def draw_pictures(
    policy: Policy,
    sampler: Sampler,
    tasks: Sequence[Task],
    micro_batch: int,
    seed_of: Callable[[Task], int],
) -> list[Tensor]:
    """One picture per task without any noise but the first: float32 [3, H, W] in [0, 1] each.

    Args:
        seed_of: Seed of a task's initial noise.
    """
    pictures: list[Tensor] = []
    for start in range(0, len(tasks), micro_batch):
        part = tasks[start : start + micro_batch]
        noise = policy.initial_noise([seed_of(task) for task in part])
        condition = policy.encode(part)
        latents = integrate(policy, sampler, noise, condition, range(sampler.num_steps))
        pictures += policy.decode(latents).cpu().unbind()
    return pictures
