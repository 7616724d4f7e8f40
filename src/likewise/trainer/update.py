"""Replaying what was drawn, and learning from it: one optimiser step (docs/method.md §3)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from likewise.algorithm.objective import (
    Objective,
    clipped_loss,
    gaussian_kl,
    guarded_ratio,
    inverse_dt,
    ratio,
)
from likewise.algorithm.transitions import gaussian_log_prob
from likewise.config.learning import Objective as ObjectiveSettings
from likewise.protocols import Condition, Policy
from likewise.rollout.sampler import Sampler
from likewise.rollout.trajectories import Trajectory, Transition


@dataclass
class UpdateSums:
    """Sums over the terms (picture, step) of an update, so that parts can be added up.

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

    def add(self, objective: Objective, kl: Tensor, terms: int) -> None:
        self.terms += terms
        self.loss += float(objective.loss.detach()) * terms
        self.kl += float(kl.detach()) * terms
        self.ratio += float(objective.ratio_mean) * terms
        self.clipped += float(objective.clip_fraction) * terms
        self.silenced += float(objective.silenced_fraction) * terms
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
                the gradient does not depend on how pictures are split.
            stop: Asked before each micro-batch; true leaves out the rest, and makes the result
                worthless.
        """
        sums = UpdateSums()
        for trajectory in trajectories:
            if stop():
                break
            rows = torch.tensor(trajectory.rows)
            for transition in trajectory.transitions:
                credit = advantages[rows, transition.step].to(transition.x.device)
                objective, kl = self._terms(trajectory.condition, transition, credit)
                loss = objective.loss + self.settings.kl * kl
                self.scaled(loss * (len(rows) / total_terms)).backward()
                sums.add(objective, kl, len(rows))
        return sums

    def ratio_deviation(self, trajectory: Trajectory) -> float:
        """Largest |ratio − 1| of a replay; 0.0 where nothing was learned since the rollout.

        Computed as an update computes it, backward pass included, since kernels and memory differ
        without gradient; gradients are cleared. Infinite where a ratio is no number.
        """
        rows, steps = max(trajectory.rows) + 1, self.sampler.num_steps
        terms = len(trajectory.rows) * len(trajectory.transitions)
        sums = self.gradient([trajectory], torch.ones(rows, steps), terms)
        for parameter in self.policy.trainable_parameters():
            parameter.grad = None
        return sums.deviation

    def _terms(
        self, condition: Condition, transition: Transition, credit: Tensor
    ) -> tuple[Objective, Tensor]:
        """The objective of one step of a micro-batch, and its mean KL to the reference."""
        settings, t = self.settings, transition.step
        mean, std = self._replayed(condition, transition)
        new, old = gaussian_log_prob(transition.following, mean, std), transition.log_prob
        if settings.guard:
            assert transition.mean is not None  # the rollout keeps them where the guard is on
            kind = self.sampler.transition.replace("-", "_")
            ratios = guarded_ratio(new, old, mean, transition.mean, std, kind)
        else:
            ratios = ratio(new, old)
        weight = None
        if settings.inverse_dt:
            length = inverse_dt(self.sampler.sigmas[t], self.sampler.sigmas[t + 1])
            weight = length.to(credit).expand_as(credit)
        objective = clipped_loss(ratios, credit, settings.clip_range, weight)
        return objective, self._kl(condition, transition, mean, std)

    def _kl(
        self, condition: Condition, transition: Transition, mean: Tensor, std: Tensor
    ) -> Tensor:
        if self.settings.kl == 0:
            return torch.zeros((), device=mean.device)
        with torch.no_grad(), self.policy.adapter_disabled():
            reference, _ = self._replayed(condition, transition)
        return gaussian_kl(mean, reference, std).mean()

    def _replayed(self, condition: Condition, transition: Transition) -> tuple[Tensor, Tensor]:
        t = transition.step
        v = self.policy.velocity(transition.x, self.sampler.sigmas[t], condition)
        return self.sampler.stochastic(transition.x, v, t)


Reduce = Callable[[Tensor], Tensor]


def sum_gradients(parameters: Sequence[torch.nn.Parameter], reduce: Reduce) -> None:
    """Add up the gradients of all processes, in one message; missing ones count as 0."""
    gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
    flat = reduce(torch.cat([gradient.flatten() for gradient in gradients]))
    for parameter, part in zip(
        parameters, flat.split([p.numel() for p in parameters]), strict=True
    ):
        parameter.grad = part.view_as(parameter)
