"""Replaying what was drawn, and learning from it: one optimiser step (docs/method.md §3)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from likewise.rollout.trajectories import Trajectory
from likewise.sharding.shards import shards_of
from likewise.trainer.image_objectives import Gather
from likewise.trainer.objective_table import OBJECTIVES, Objective
from likewise.trainer.reward_gradients import RewardGradients
from likewise.trainer.terms import Term, Trained


@dataclass
class UpdateSums:
    """Sums over the terms of an update, so that parts can be added up.

    Attributes:
        terms: How many there are: samples times forwards of each.
        sums, counts: By name, sums over terms, and of how many.
        most: By name, the largest of all.
    """

    terms: int = 0
    sums: dict[str, float] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    most: dict[str, float] = field(default_factory=dict)

    def add(self, term: Term, count: int) -> None:
        """Add the means of a term over `count` samples."""
        self.terms += count
        for name, mean in term.means.items():
            own = term.counts.get(name, count)
            self.sums[name] = self.sums.get(name, 0.0) + float(mean.detach()) * own
            self.counts[name] = self.counts.get(name, 0) + own
        for name, value in term.most.items():
            known = float(value.nan_to_num(torch.inf))  # max() would skip NaN
            self.most[name] = max(self.most.get(name, 0.0), known)

    @property
    def is_finite(self) -> bool:
        """Whether all losses were."""
        return math.isfinite(self.sums.get("loss", 0.0))


@dataclass(frozen=True)
class Update:
    """The gradient of an update, from the micro-batches that were drawn for it.

    Attributes:
        trained: The policy, how it draws, and the objective's settings.
        scaled: What to go backward from instead of the loss: see `Learner.scaled`.
        gather: Joins lists of all processes.
    """

    trained: Trained
    scaled: Callable[[Tensor], Tensor] = lambda loss: loss
    gather: Gather = lambda own: own

    @property
    def objective(self) -> Objective:
        """Its entry in the table."""
        return OBJECTIVES[self.trained.settings.kind]

    def terms_per_sample(self, trained_steps: int) -> int:
        """How many terms of every sample there are, where so many steps are trained."""
        return self.objective.terms_per_sample(self.trained.settings, trained_steps)

    def gradient(
        self,
        trajectories: Sequence[Trajectory],
        advantages: Tensor,
        total_terms: int,
        stop: Callable[[], bool] = lambda: False,
        apart: RewardGradients | None = None,
    ) -> UpdateSums:
        """Add this process's share of the update's gradient to the parameters'.

        Args:
            advantages: [B, T] of the whole iteration; looked up by sample and true step index.
            total_terms: Terms of this update over all processes, by which the loss is averaged: so
                the gradient does not depend on how images are split.
            stop: Asked before each micro-batch; true leaves out the rest, and makes the result
                worthless.
            apart: Takes the gradient of each reward from the same forwards, by a backward pass for
                each; what is added to the parameters' stays the same in every bit.
        """
        sums, trained, objective = UpdateSums(), self.trained, self.objective
        shards = shards_of(trained.policy)
        if objective.prepare is not None:
            advantages = objective.prepare(trained, trajectories, advantages, self.gather)
        for trajectory in objective.batches(trajectories):
            if stop():
                break
            indices = torch.tensor(trajectory.indices)
            for term in objective.terms(trained, trajectory, advantages[indices]):
                share = len(indices) / total_terms
                loss = self.scaled(term.loss * share)
                if shards is not None:  # and `apart` is None: recipes see to it
                    shards.lockstep.backward(loss)
                else:
                    loss.backward(retain_graph=apart is not None)
                if apart is not None:
                    apart.add(term, indices, share)
                sums.add(term, len(indices))
        return sums

    def ratio_deviation(self, trajectory: Trajectory) -> float:
        """Largest |ratio − 1| of a replay; 0.0 where nothing was learned since the rollout.

        Computed as an update computes it, backward pass included, since kernels and memory differ
        without gradient; gradients are cleared. Infinite where a ratio is not a number.
        """
        samples, steps = max(trajectory.indices) + 1, self.trained.sampler.num_steps
        terms = len(trajectory.indices) * len(trajectory.stored)
        sums = self.gradient([trajectory], torch.ones(samples, steps), terms)
        for parameter in self.trained.policy.trainable_parameters():
            parameter.grad = None
        return sums.most.get("ratio_deviation", 0.0)
