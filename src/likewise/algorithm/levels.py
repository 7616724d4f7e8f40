"""Noise levels at which finished images are learned from (docs/method.md §3)."""

from __future__ import annotations

import torch
from torch import Tensor

SMALLEST = 1e-3  # where a level is drawn from (0, 1): below, hardly anything is left to predict


def draw_levels(kind: str, sigmas: Tensor, count: int, seed: int) -> Tensor:
    """Levels [count] in (0, 1], of the dtype of `sigmas`.

    Args:
        kind: ``grid``: levels at which the schedule's steps begin, each once before any is
            repeated; ``uniform`` or ``logit-normal`` (sigmoid of a standard normal, as in Stable
            Diffusion 3): from (0, 1).
        sigmas: The sampling schedule [T+1], falling.
        seed: All samples of a group share theirs: differences between them then owe nothing to it.

    Raises:
        ValueError: there is no such kind.
    """
    generator = torch.Generator().manual_seed(seed)
    if kind == "grid":
        steps = len(sigmas) - 1
        rounds = -(-count // steps)
        order = [torch.randperm(steps, generator=generator) for _ in range(rounds)]
        return sigmas[torch.cat(order)[:count]]
    if kind == "uniform":
        levels = torch.rand(count, generator=generator)
    elif kind == "logit-normal":
        levels = torch.randn(count, generator=generator).sigmoid()
    else:
        raise ValueError(f"levels must be grid, uniform or logit-normal, not {kind!r}")
    return levels.clamp(SMALLEST, 1.0).to(sigmas.dtype)


def step_of(levels: Tensor, sigmas: Tensor) -> Tensor:
    """The step t of the schedule in whose interval each level lies, int64 of its shape.

        σ_{t+1} < level ≤ σ_t

    Time weights of that step hold at the level: TDW by level. Levels above σ_0 count as step 0,
    those below σ_T as the last step.
    """
    falling = sigmas[:-1].flip(0).contiguous()  # σ_{T−1} … σ_0, ascending
    steps = len(falling) - 1 - torch.searchsorted(falling, levels.to(falling).contiguous())
    return steps.clamp_min(0)
