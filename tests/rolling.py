"""A policy whose velocity is a closed form, and one call that draws with any policy."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from tiny import a_task
from torch import Tensor, nn

from likewise.algorithm.schedule import shifted_sigmas
from likewise.config.rollout import Rollout
from likewise.protocols import Policy
from likewise.rollout.sampler import Sampler
from likewise.rollout.steps import StepPlan
from likewise.rollout.trajectories import Roller, Trajectory
from likewise.seeding import derive_seed
from likewise.types import Task

PROMPTS = ("a red duck", "the blue teapot", "on the beach", "a wooden floor", "in the snow")
SHAPE = (4, 3)  # of a latent


@dataclass(frozen=True)
class LinearCondition:
    """One vector per task, [B, 3]."""

    vectors: Tensor

    def __len__(self) -> int:
        return len(self.vectors)

    def repeat(self, times: int) -> LinearCondition:
        return LinearCondition(self.vectors.repeat_interleave(times, 0))

    def select(self, indices: slice | Sequence[int]) -> LinearCondition:
        return LinearCondition(self.vectors[indices])

    def to(self, device: torch.device | str) -> LinearCondition:
        return LinearCondition(self.vectors.to(device))


class LinearPolicy:
    """v = x·Wᵀ + σ·b + c(prompt), in the dtype asked for; counts the samples of its forwards."""

    parameterization = "flow"

    def __init__(self, dtype: torch.dtype = torch.float32) -> None:
        generator = torch.Generator().manual_seed(3)
        self.dtype = dtype
        self.weight = nn.Parameter(0.3 * torch.randn(3, 3, generator=generator, dtype=dtype))
        self.bias = nn.Parameter(torch.randn(3, generator=generator, dtype=dtype))
        self.reference = [p.detach().clone() for p in self.trainable_parameters()]
        self.encoded: list[str] = []
        self.calls: list[tuple[float, int]] = []  # level, samples

    def encode(self, tasks: Sequence[Task]) -> LinearCondition:
        self.encoded += [task.prompt for task in tasks]
        vectors = [self._normal((3,), derive_seed("prompt", task.prompt)) for task in tasks]
        return LinearCondition(torch.stack(vectors))

    def initial_noise(self, seeds: Sequence[int]) -> Tensor:
        return torch.stack([self._normal(SHAPE, seed) for seed in seeds])

    def sigmas(self, num_steps: int, shift: float | None) -> Tensor:
        return shifted_sigmas(num_steps, shift or 2.0)

    def velocity(self, x: Tensor, sigma: float | Tensor, condition: LinearCondition) -> Tensor:
        level = torch.as_tensor(sigma, dtype=self.dtype).reshape(-1, 1, 1)  # one, or one per sample
        self.calls.append((float(level.flatten()[0]), len(x)))
        # Products and sums by sample: in a matrix product rounding would depend on the batch.
        product = (x[..., None, :] * self.weight).sum(-1)
        return product + level * self.bias + condition.vectors[:, None]

    def decode(self, x: Tensor) -> Tensor:
        return x.detach().sigmoid().float().unsqueeze(1).repeat(1, 3, 2, 2)

    def trainable_parameters(self) -> list[nn.Parameter]:
        return [self.weight, self.bias]

    def save_adapter(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        save_file({"w": self.weight.detach(), "b": self.bias.detach()}, folder / "linear")

    def load_adapter(self, folder: Path) -> None:
        stored = load_file(folder / "linear")
        with torch.no_grad():
            self.weight.copy_(stored["w"])
            self.bias.copy_(stored["b"])

    @contextmanager
    def adapter_disabled(self) -> Iterator[None]:
        own = [p.data for p in self.trainable_parameters()]
        for parameter, other in zip(self.trainable_parameters(), self.reference, strict=True):
            parameter.data = other
        try:
            yield
        finally:
            for parameter, other in zip(self.trainable_parameters(), own, strict=True):
                parameter.data = other

    def _normal(self, shape: tuple[int, ...], seed: int) -> Tensor:
        return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=self.dtype)


def some_tasks(count: int) -> list[Task]:
    return [a_task(PROMPTS[number]) for number in range(count)]


def sampler(policy: Policy, steps: int = 4, transition: str = "flow-sde") -> Sampler:
    return Sampler(policy.sigmas(steps, None), transition, 0.7)


def plan(steps: Sequence[int], trained: Sequence[int] | None = None) -> StepPlan:
    return StepPlan(tuple(steps), tuple(steps if trained is None else trained))


def roller(
    policy: Policy,
    steps: StepPlan,
    *,
    tasks: Sequence[Task] | int = 2,
    indices: Sequence[int] | None = None,
    group: int = 3,
    micro: int = 100,
    seed: int = 5,
    shared: bool = False,
    means: bool = False,
    transition: str = "flow-sde",
    num_steps: int = 4,
) -> Roller:
    tasks = some_tasks(tasks) if isinstance(tasks, int) else tasks
    indices = range(len(tasks) * group) if indices is None else indices
    how = sampler(policy, num_steps, transition)
    settings = Rollout(group_size=group, micro_batch=micro, shared_noise=shared)
    return Roller(policy, how, steps, tasks, settings, indices, seed, means)


def roll(
    policy: Policy,
    steps: StepPlan,
    *,
    tasks: Sequence[Task] | int = 2,
    group: int = 3,
    micro: int = 100,
    **options: object,
) -> list[Trajectory]:
    """All samples of an iteration, in micro-batches of `micro`."""
    count = (tasks if isinstance(tasks, int) else len(tasks)) * group
    draws = roller(policy, steps, tasks=tasks, group=group, micro=micro, **options)  # type: ignore[arg-type]
    batches = [tuple(range(at, min(at + micro, count))) for at in range(0, count, micro)]
    return [draws.draw(batch) for batch in batches]
