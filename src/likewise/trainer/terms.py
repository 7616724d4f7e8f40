"""What an update adds up, and what it is computed with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from likewise.protocols import Condition, Policy
from likewise.rollout.sampler import Sampler
from likewise.rollout.trajectories import StoredStep
from likewise.trainer.old import OldWeights


@dataclass(frozen=True)
class Term:
    """One forward of a micro-batch.

    Attributes:
        loss: To go backward from: a mean over samples, without dimensions.
        means: What to log, each a mean over samples.
        most: What to log of all terms the largest of.
        counts: Of how many samples a mean is, where not of all.
        loss_at: The loss that these samples would have at other advantages [b, T], regularisers
            left out; None where it is not a mean of losses of single samples.
        steps: Of the schedule, whose advantages the loss is of, int64 [b] on the CPU.
    """

    loss: Tensor
    means: Mapping[str, Tensor]
    most: Mapping[str, Tensor] = field(default_factory=dict)
    counts: Mapping[str, int] = field(default_factory=dict)
    loss_at: Callable[[Tensor], Tensor] | None = None
    steps: Tensor | None = None


@dataclass(frozen=True)
class Trained:
    """The policy that is trained, and how it draws.

    Attributes:
        settings: The recipe's section.
        old: Weights of the old policy, for objectives that compare with it.
        has_reference: Whether the frozen reference is at hand.
    """

    policy: Policy
    sampler: Sampler
    settings: Any
    old: OldWeights | None = None
    has_reference: bool = True

    def replayed(self, condition: Condition, stored: StoredStep) -> tuple[Tensor, Tensor]:
        """Mean, with gradient, and std of a stored step, computed again."""
        x, task_index = stored.x, stored.task_index
        v = self.policy.velocity(x, self.sampler.sigmas[stored.step], condition)
        if task_index is not None:  # groups are one latent there
            x, v = x[task_index], v[task_index]
        return self.sampler.stochastic(x, v, stored.step)

    def reference(self, condition: Condition, stored: StoredStep) -> Tensor:
        """The mean that the frozen reference gives a stored step."""
        with torch.no_grad(), self.policy.adapter_disabled():
            return self.replayed(condition, stored)[0]

    def reference_velocity(self, x: Tensor, sigma: Tensor, condition: Condition) -> Tensor:
        """Of the frozen reference, without gradient."""
        with torch.no_grad(), self.policy.adapter_disabled():
            return self.policy.velocity(x, sigma, condition)
