"""Groups of samples as training draws them, scored: what correlations inside groups come from."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from likewise.protocols import Policy, Reward
from likewise.rollout.sampler import Sampler
from likewise.rollout.scoring import Scores
from likewise.rollout.spoilt import AskedUsable
from likewise.seeding import derive_seed
from likewise.types import Task


def score_groups(
    policy: Policy,
    sampler: Sampler,
    tasks: Sequence[Task],
    scorers: Mapping[str, Reward],
    steps: Sequence[int],
    size: int,
    micro_batch: int,
    seed: int = 0,
    progress: Callable[[int], None] = lambda done: None,
) -> dict[str, np.ndarray]:
    """Scorer's name → its values, float64 [tasks, G]; NaN where missing.

    Args:
        steps: Which are random; all others follow the ODE. A group begins with one noise.
        size: G, samples per task.
        micro_batch: Images per forward.
        progress: Called with the number of images done.

    Raises:
        ValueError: a scorer fails (the message names it).
    """
    parts: list[Scores] = []
    done = 0
    for batch in torch.arange(len(tasks) * size).split(micro_batch):
        indices = batch.tolist()
        about = [tasks[index // size] for index in indices]
        latents = _draw(policy, sampler, about, indices, steps, size, seed)
        scores = AskedUsable(scorers, list(policy.decode(latents).cpu()), about)
        parts.append(scores.scores(time.monotonic()))
        for name, reason in parts[-1].failures.items():
            raise ValueError(f"{name} failed: {reason}")
        done += len(indices)
        progress(done)
    values = torch.cat([part.values for part in parts], 1).double()
    valid = torch.cat([part.valid for part in parts], 1)
    known = values.masked_fill(~valid, torch.nan).reshape(len(scorers), -1, size).numpy()
    return dict(zip(scorers, known, strict=True))


@torch.no_grad()
def _draw(
    policy: Policy,
    sampler: Sampler,
    about: Sequence[Task],
    indices: Sequence[int],
    steps: Sequence[int],
    size: int,
    seed: int,
) -> Tensor:
    """Finished latents of these samples, [b, *latent]."""

    def noise(purpose: str, *numbers: Sequence[int]) -> Tensor:
        each = zip(*numbers, strict=True)
        return policy.initial_noise([derive_seed("groups", seed, purpose, *own) for own in each])

    x = noise("initial noise", [index // size for index in indices])
    condition = policy.encode(about)
    for t in range(sampler.num_steps):
        v = policy.velocity(x, sampler.sigmas[t], condition)
        if t in steps:
            x = sampler.step(x, v, t, noise("step", [t] * len(indices), indices)).following
        else:
            x = sampler.deterministic(x, v, t)
    return x
