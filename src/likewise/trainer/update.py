"""Replaying what was drawn, and learning from it: one optimiser step (docs/method.md §3)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from likewise.config.learning import Objective as ObjectiveSettings
from likewise.protocols import Policy
from likewise.rollout.sampler import Sampler
from likewise.rollout.trajectories import Trajectory, replay_batches
from likewise.trainer.objectives import OBJECTIVES, Term, Trained


@dataclass
class UpdateSums:
    """Sums over the terms (image, step) of an update, so that parts can be added up.

    Attributes:
        terms: How many there are.
        loss, kl, ratio, clipped, silenced: Sums over terms.
        deviation: Largest |ratio − 1|.
    """

    terms: int = 0
    loss: float = 0.0
    kl: float = 0.0
    ratio: float = 0.0
    clipped: float = 0.0
    silenced: float = 0.0
    deviation: float = 0.0

    def add(self, term: Term, count: int) -> None:
        """Add the means of a term over `count` samples."""
        objective = term.objective
        self.terms += count
        self.loss += float(objective.loss.detach()) * count
        self.kl += float(term.kl.detach()) * count
        self.ratio += float(objective.ratio_mean) * count
        self.clipped += float(objective.clip_fraction) * count
        self.silenced += float(objective.silenced_fraction) * count
        apart = objective.ratio_deviation.nan_to_num(torch.inf)  # max() would skip NaN
        self.deviation = max(self.deviation, float(apart))


@dataclass(frozen=True)
class Replay:
    """The trained steps again, now with gradient, in the batches in which they were drawn.

    Attributes:
        scaled: What to go backward from instead of the loss: see `Learner.scaled`.
    """

    policy: Policy
    sampler: Sampler
    settings: ObjectiveSettings
    scaled: Callable[[Tensor], Tensor] = lambda loss: loss

    def gradient(
        self,
        trajectories: Sequence[Trajectory],
        advantages: Tensor,
        total_terms: int,
        stop: Callable[[], bool] = lambda: False,
    ) -> UpdateSums:
        """Add this process's share of the update's gradient to the parameters'.

        Args:
            advantages: [B, T] of the whole iteration; rows and true step indices are looked up.
            total_terms: Terms of this update over all processes, by which the loss is averaged: so
                the gradient does not depend on how images are split.
            stop: Asked before each micro-batch; true leaves out the rest, and makes the result
                worthless.
        """
        sums, objective = UpdateSums(), OBJECTIVES[self.settings.kind]
        trained = Trained(self.policy, self.sampler, self.settings)
        for trajectory in replay_batches(trajectories):
            if stop():
                break
            rows = torch.tensor(trajectory.rows)
            for term in objective(trained, trajectory, advantages[rows]):
                self.scaled(term.loss * (len(rows) / total_terms)).backward()
                sums.add(term, len(rows))
        return sums

    def ratio_deviation(self, trajectory: Trajectory) -> float:
        """Largest |ratio − 1| of a replay; 0.0 where nothing was learned since the rollout.

        Computed as an update computes it, backward pass included, since kernels and memory differ
        without gradient; gradients are cleared. Infinite where a ratio is no number.
        """
        rows, steps = max(trajectory.rows) + 1, self.sampler.num_steps
        terms = len(trajectory.rows) * len(trajectory.stored)
        sums = self.gradient([trajectory], torch.ones(rows, steps), terms)
        for parameter in self.policy.trainable_parameters():
            parameter.grad = None
        return sums.deviation


Reduce = Callable[[Tensor], Tensor]


def sum_gradients(parameters: Sequence[torch.nn.Parameter], reduce: Reduce) -> None:
    """Add up the gradients of all processes, in one message; missing ones count as 0."""
    gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
    flat = reduce(torch.cat([gradient.flatten() for gradient in gradients]))
    for parameter, part in zip(
        parameters, flat.split([p.numel() for p in parameters]), strict=True
    ):
        parameter.grad = part.view_as(parameter)
