"""How long the parts of an iteration take on this machine, measured on one micro-batch each."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields

import torch
from PIL.Image import Image

from likewise.config.recipe import Recipe
from likewise.protocols import AnyReward
from likewise.rollout.scoring import score_images, to_pil
from likewise.rollout.trajectories import StoredStep, Trajectory
from likewise.sharding.shards import shards_of
from likewise.trainer.clock import peak_memory_mb
from likewise.trainer.plan import Plan, Work
from likewise.trainer.plugins import Parts
from likewise.trainer.processes import Processes
from likewise.trainer.terms import Trained
from likewise.trainer.update import Update
from likewise.types import Task

REPEATS = 3
ENOUGH_SECONDS = 1.5  # per part: slow models are measured once


@dataclass(frozen=True)
class Speed:
    """Seconds per unit of a plan's work, in the slowest process while all of them are busy.

    Attributes:
        encode: Per task: make it, and encode prompt and reference.
        rollout: Per forward without gradient, the transition included.
        score: Per image: decode, and ask all rewards.
        evaluator: Per image: ask the evaluators too.
        update: Per forward with gradient and backward.
        parameters: How many numbers are trained.
        memory_mb: Most memory of a process so far: see `clock.peak_memory_mb`.
    """

    encode: float
    rollout: float
    score: float
    evaluator: float
    update: float
    parameters: int
    memory_mb: float

    def of_iteration(self, plan: Plan) -> float:
        """Seconds of one iteration: all wait for the process that has most to do."""
        return self._of(plan.busiest)

    def of_run(self, plan: Plan) -> float:
        """Seconds of the whole run, evaluations included, start and checkpoints not."""
        images = plan.evaluation.images
        share = math.ceil(images / plan.processes) / images
        look = share * (self._of(plan.evaluation) + images * self.evaluator)
        return plan.iterations * self._of(plan.busiest) + plan.evaluations * look

    def _of(self, work: Work) -> float:
        return (
            work.tasks * self.encode
            + (work.rollout + work.reference) * self.rollout
            + (work.images + work.finished) * self.score
            + work.update * self.update
        )


def probe(recipe: Recipe, parts: Parts, processes: Processes) -> Speed:
    """Measure every part of an iteration, in all processes at once; nothing is learned.

    Raises:
        ValueError: a task does not suit the policy.
    """
    one = _Bench(recipe, parts, processes)
    encode = one.time(one.encode) / len(one.tasks)
    rollout, trajectory = one.time(one.draw), one.draw()
    images = one.decode(trajectory)
    score = one.time(lambda: one.score(parts.rewards, one.decode(trajectory)))
    evaluator = (
        one.time(lambda: one.score(parts.evaluators, images)) if parts.evaluation_tasks else 0.0
    )
    update = one.time(lambda: one.learn(trajectory))
    forwards = len(one.tasks) * recipe.policy.forwards
    parameters = sum(p.numel() for p in parts.policy.trainable_parameters())
    memory = peak_memory_mb(processes.device)
    count = len(one.tasks)
    own = Speed(
        encode,
        rollout / forwards,
        score / count,
        evaluator / count,
        update / forwards,
        parameters,
        memory,
    )
    return slowest(processes.gather([own]))


def slowest(speeds: Sequence[Speed]) -> Speed:
    """The largest of each number."""
    names = [field.name for field in fields(Speed)]
    return Speed(**{name: max(getattr(speed, name) for speed in speeds) for name in names})


class _Bench:
    """One micro-batch, and each thing that an iteration does with it."""

    def __init__(self, recipe: Recipe, parts: Parts, processes: Processes) -> None:
        self.recipe, self.parts, self.processes = recipe, parts, processes
        processes.share(shards_of(parts.policy))
        self.sampler, settings = parts.sampler, recipe.rollout
        per_process = math.ceil(settings.tasks * settings.group_size / processes.count)
        count = min(settings.micro_batch, per_process)
        self.numbers = itertools.count()
        self.tasks: list[Task] = [parts.stream(next(self.numbers)) for _ in range(count)]
        self.condition = parts.policy.encode(self.tasks)

    def time(self, part: Callable[[], object]) -> float:
        """Seconds of one call: the median of a few after a first one, all processes in step."""
        part()
        seconds: list[float] = []
        while len(seconds) < REPEATS and sum(seconds) < ENOUGH_SECONDS:
            self.processes.wait()
            started = time.perf_counter()
            part()
            if self.processes.device.type == "cuda":
                torch.cuda.synchronize(self.processes.device)
            own = time.perf_counter() - started
            seconds.append(max(self.processes.gather([own])))
        return sorted(seconds)[len(seconds) // 2]

    def encode(self) -> None:
        self.parts.policy.encode([self.parts.stream(next(self.numbers)) for _ in self.tasks])

    @torch.no_grad()
    def draw(self) -> Trajectory:
        """The first step, at random, as `rollout.trajectories` takes it."""
        policy, seeds = self.parts.policy, list(range(len(self.tasks)))
        x = policy.initial_noise(seeds)
        v = policy.velocity(x, self.sampler.sigmas[0], self.condition)
        drawn = self.sampler.step(x, v, 0, policy.initial_noise(seeds))
        step = StoredStep(0, x, drawn.following, drawn.mean, drawn.log_prob())
        return Trajectory(tuple(seeds), self.condition, (step,), drawn.following, 0, 1)

    def decode(self, trajectory: Trajectory) -> list[Image]:
        return to_pil(self.parts.policy.decode(trajectory.latents))

    def score(self, scorers: Mapping[str, AnyReward], images: Sequence[Image]) -> None:
        for name, reason in score_images(scorers, images, self.tasks).failures.items():
            if name in self.recipe.rewards and name not in self.recipe.credited:
                continue  # a run goes on without a diagnostic
            raise ValueError(f"reward {name!r} failed: {reason}")

    def learn(self, trajectory: Trajectory) -> None:
        """Forward and backward; the gradient is thrown away. The KL counts as rollout."""
        settings = self.recipe.objective.model_copy(update={"kl": 0.0})
        update = Update(Trained(self.parts.policy, self.sampler, settings))
        credit = torch.ones(len(self.tasks), self.recipe.rollout.num_steps)
        update.gradient([trajectory], credit, len(self.tasks))
        for parameter in self.parts.policy.trainable_parameters():
            parameter.grad = None
