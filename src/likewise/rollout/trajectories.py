"""Drawing images at random, and keeping what an update needs to replay them (docs/method.md §1)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from likewise.config.rollout import Rollout
from likewise.protocols import Condition, Policy
from likewise.rollout.layout import Indices
from likewise.rollout.sampler import Sampler
from likewise.rollout.solvers import integrate, solve
from likewise.rollout.steps import StepPlan
from likewise.seeding import derive_seed
from likewise.types import Task

Tasks = Sequence[Task] | Mapping[int, Task]  # of an iteration: all, or those that are at hand


@dataclass(frozen=True, eq=False)
class Fork:
    """Latents at the first SDE step, where all samples of a group are still one.

    One forward for each group gives the velocities of all its samples, in rollout and replay.

    Attributes:
        parts: Batches of tasks, in the roller's order: their conditions, and x [n, *latent].
        size: Tasks in every part but the last.
    """

    parts: tuple[tuple[Condition, Tensor], ...]
    size: int


@dataclass(frozen=True)
class StoredStep:
    """One trained step of a micro-batch of b samples, as it was drawn.

    Attributes:
        step: True index t in the sampling schedule.
        x: Latents x_t, float32 [b, *latent], as they are replayed; [n, *latent] where a `fork` was
            taken apart (:func:`replay_batches`), and sample b began at x[task_index[b]].
        following: Latents x_{t+1}, float32 [b, *latent].
        mean: Mean of the transition, like `following`; None unless asked for (GRPO-Guard needs it).
        log_prob: Of `following`, float32 [b].
        task_index: Each sample's task, int64 [b]: its index in the fork or, in a part of it, in x.
            None where each sample has a latent of its own.
        fork: Where the samples' latents come from, if it is the first SDE step of whole groups.
    """

    step: int
    x: Tensor
    following: Tensor
    mean: Tensor | None
    log_prob: Tensor
    task_index: Tensor | None = None
    fork: Fork | None = None


@dataclass(frozen=True)
class Trajectory:
    """A micro-batch of images on their way from noise.

    Attributes:
        indices: Which samples of the iteration these are.
        condition: Their tasks, encoded.
        stored: Trained steps, ascending.
        latents: Finished, float32 [b, *latent].
        seed: Of the run and iteration: what their noise was derived from.
        group_size: Samples per task.
    """

    indices: Indices
    condition: Condition
    stored: tuple[StoredStep, ...]
    latents: Tensor
    seed: int
    group_size: int

    @property
    def tasks(self) -> list[int]:
        """Which task of the iteration each sample is of."""
        return [index // self.group_size for index in self.indices]


class Roller:
    """Draws the micro-batches of one iteration.

    Prompts and references are encoded once per task. Where all noise of a group comes after some
    deterministic steps, those are computed once per task too, and so is the first velocity after
    them.

    Args:
        tasks: Of the iteration, by number; only those of `indices` are touched.
        settings: The recipe's section.
        indices: Samples that this process draws.
        seed: Of the run and iteration: :func:`iteration_seed`.
        keep_means: Keep the means of trained steps too.
        solver: How to follow the ODE where no step is random: see `solvers`.
    """

    def __init__(
        self,
        policy: Policy,
        sampler: Sampler,
        plan: StepPlan,
        tasks: Tasks,
        settings: Rollout,
        indices: Sequence[int],
        seed: int,
        keep_means: bool = False,
        solver: str = "euler",
    ) -> None:
        self.policy, self.sampler, self.plan, self.settings = policy, sampler, plan, settings
        self.indices, self.seed = tuple(indices), seed
        self.keep_means, self.solver = keep_means, solver
        own = sorted({index // settings.group_size for index in indices})
        self.positions = {task: position for position, task in enumerate(own)}
        self.condition = policy.encode([tasks[task] for task in own])
        shares = settings.shared_noise is not False and bool(plan.stochastic)
        self.first = min(plan.stochastic) if shares else 0
        self.shared = self._share_starts() if shares and own else None

    @torch.no_grad()
    def draw(self, indices: Indices) -> Trajectory:
        """Draw these samples in one batch."""
        task_index = [self.positions[index // self.settings.group_size] for index in indices]
        condition = self.condition.select(task_index)
        kept: list[StoredStep] = []
        if not self.plan.stochastic:
            x = self.policy.initial_noise([self._seed(index, "initial noise") for index in indices])
            x = solve(self.policy, self.sampler, x, condition, self.solver)
            return self._trajectory(indices, condition, (), x)
        if self.shared is None:
            x = self.policy.initial_noise([self._seed(index, "initial noise") for index in indices])
        else:
            fork, starts, velocities = self.shared
            step = self._step(starts[task_index], velocities[task_index], self.first, indices)
            step = replace(step, task_index=torch.tensor(task_index), fork=fork)
            kept += [step] if self.first in self.plan.trained else []
            x = step.following
        for t in range(self.first + (self.shared is not None), self.sampler.num_steps):
            v = self.policy.velocity(x, self.sampler.sigmas[t], condition)
            if t in self.plan.stochastic:
                step = self._step(x, v, t, indices)
                kept += [step] if t in self.plan.trained else []
                x = step.following
            else:
                x = self.sampler.deterministic(x, v, t)
        return self._trajectory(indices, condition, tuple(kept), x)

    def _trajectory(
        self, indices: Indices, condition: Condition, kept: tuple[StoredStep, ...], x: Tensor
    ) -> Trajectory:
        return Trajectory(indices, condition, kept, x, self.seed, self.settings.group_size)

    def _step(self, x: Tensor, v: Tensor, t: int, indices: Indices) -> StoredStep:
        noise = self.policy.initial_noise([self._seed(index, "step", t) for index in indices])
        drawn = self.sampler.step(x, v, t, noise)
        mean = drawn.mean if self.keep_means else None
        return StoredStep(t, x, drawn.following, mean, drawn.log_prob())

    @torch.no_grad()
    def _share_starts(self) -> tuple[Fork, Tensor, Tensor]:
        """Every task's latents at the first SDE step, and their velocities, [tasks, *latent]."""
        seeds = [derive_seed(self.seed, "initial noise", task) for task in self.positions]
        noise, size = self.policy.initial_noise(seeds), self.settings.micro_batch
        parts, velocities = [], []
        for start in range(0, len(noise), size):
            part = slice(start, start + size)
            condition, x = self.condition.select(part), noise[part]
            x = integrate(self.policy, self.sampler, x, condition, range(self.first))
            parts.append((condition, x))
            velocities.append(self.policy.velocity(x, self.sampler.sigmas[self.first], condition))
        starts = torch.cat([x for _, x in parts])
        return Fork(tuple(parts), size), starts, torch.cat(velocities)

    def _seed(self, index: int, *purpose: str | int) -> int:
        return derive_seed(self.seed, *purpose, *divmod(index, self.settings.group_size))


def replay_batches(trajectories: Sequence[Trajectory]) -> list[Trajectory]:
    """What an update replays: the same steps, in the batches in which their velocities were drawn.

    Steps at a fork leave the trajectories that they belong to. They come first, one trajectory for
    each part of the fork, with the samples that were drawn from it; these have no finished latents.
    """
    own = [
        replace(one, stored=tuple(step for step in one.stored if step.fork is None))
        for one in trajectories
    ]
    drawn: dict[Fork, list[tuple[Indices, StoredStep]]] = {}
    for one in trajectories:
        for step in one.stored:
            if step.fork is not None:
                drawn.setdefault(step.fork, []).append((one.indices, step))
    parts = [part for fork, steps in drawn.items() for part in _parts(trajectories[0], fork, steps)]
    return [*parts, *(one for one in own if one.stored)]


def _parts(
    one: Trajectory, fork: Fork, drawn: Sequence[tuple[Indices, StoredStep]]
) -> Iterator[Trajectory]:
    indices = torch.tensor([index for some, _ in drawn for index in some])
    steps = [step for _, step in drawn]
    task_index = torch.cat([step.task_index for step in steps if step.task_index is not None])
    following = torch.cat([step.following for step in steps])
    means = [step.mean for step in steps if step.mean is not None]
    mean = torch.cat(means) if means else None
    log_prob = torch.cat([step.log_prob for step in steps])
    for number, (condition, x) in enumerate(fork.parts):
        here = task_index // fork.size == number
        if not here.any():
            continue
        there = here.to(x.device)
        step = StoredStep(
            steps[0].step,
            x,
            following[there],
            None if mean is None else mean[there],
            log_prob[there],
            (task_index[here] % fork.size).to(x.device),
        )
        own = tuple(indices[here].tolist())
        yield replace(one, indices=own, condition=condition, stored=(step,), latents=x[:0])


def iteration_seed(seed: int, iteration: int) -> int:
    """What every random number of an iteration's images is derived from."""
    return derive_seed("rollout", seed, iteration)


def draw_images(
    policy: Policy,
    sampler: Sampler,
    tasks: Sequence[Task],
    micro_batch: int,
    seed_of: Callable[[Task], int],
    decode_batch: int | None = None,
) -> list[Tensor]:
    """One image per task without any noise but the first: float32 [3, H, W] in [0, 1] each.

    Args:
        seed_of: Seed of a task's initial noise.
        decode_batch: How many are decoded at a time; None: a micro-batch.
    """
    images: list[Tensor] = []
    for start in range(0, len(tasks), micro_batch):
        part = tasks[start : start + micro_batch]
        noise = policy.initial_noise([seed_of(task) for task in part])
        condition = policy.encode(part)
        latents = integrate(policy, sampler, noise, condition, range(sampler.num_steps))
        images += decode(policy, latents, decode_batch).cpu().unbind()
    return images


def decode(policy: Policy, latents: Tensor, batch: int | None) -> Tensor:
    """Images float32 [B, 3, H, W] in [0, 1], decoded so many at a time; None: all at once.

    In parts they are gathered on the CPU.
    """
    if batch is None or len(latents) <= batch:
        return policy.decode(latents)
    return torch.cat([policy.decode(part).cpu() for part in latents.split(batch)])
