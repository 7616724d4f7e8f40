"""What an update minimises, one term after another: a table of objectives (docs/method.md §3).

An objective is one function of a micro-batch and its advantages that yields a loss for each forward
with gradient. `OBJECTIVES` names it by the `kind` of the recipe's section `objective`. The formulas
are in `algorithm.objective`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
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
from likewise.rollout.trajectories import StoredStep, Trajectory


@dataclass(frozen=True)
class Term:
    """One forward of a micro-batch: means over its samples, without dimensions.

    Attributes:
        objective: Its loss, before the KL, and how ratios were spread.
        kl: To the frozen reference; 0 where it has no weight.
        loss: Both together, to go backward from.
    """

    objective: Objective
    kl: Tensor
    loss: Tensor


@dataclass(frozen=True)
class Trained:
    """The policy that is trained, and how it draws.

    Attributes:
        settings: The recipe's section.
    """

    policy: Policy
    sampler: Sampler
    settings: ObjectiveSettings

    def replayed(self, condition: Condition, stored: StoredStep) -> tuple[Tensor, Tensor]:
        """Mean, with gradient, and std of a stored step, computed again."""
        x, places = stored.x, stored.places
        v = self.policy.velocity(x, self.sampler.sigmas[stored.step], condition)
        if places is not None:  # groups are one latent there
            x, v = x[places], v[places]
        return self.sampler.stochastic(x, v, stored.step)

    def reference(self, condition: Condition, stored: StoredStep) -> Tensor:
        """The mean that the frozen reference gives a stored step."""
        with torch.no_grad(), self.policy.adapter_disabled():
            return self.replayed(condition, stored)[0]


def grpo(trained: Trained, trajectory: Trajectory, advantages: Tensor) -> Iterator[Term]:
    """The clipped surrogate, a term for each trained step.

    Args:
        trajectory: b samples.
        advantages: Theirs, [b, T].
    """
    settings, sampler = trained.settings, trained.sampler
    for stored in trajectory.stored:
        t, credit = stored.step, advantages[:, stored.step].to(stored.x.device)
        mean, std = trained.replayed(trajectory.condition, stored)
        new, old = gaussian_log_prob(stored.following, mean, std), stored.log_prob
        if settings.guard:
            assert stored.mean is not None  # the rollout keeps them where the guard is on
            ratios = guarded_ratio(new, old, mean, stored.mean, std, sampler.transition)
        else:
            ratios = ratio(new, old)
        weight = None
        if settings.inverse_dt:
            length = inverse_dt(sampler.sigmas[t], sampler.sigmas[t + 1])
            weight = length.to(credit).expand_as(credit)
        objective = clipped_loss(ratios, credit, settings.clip_range, weight)
        kl = torch.zeros((), device=mean.device)
        if settings.kl > 0:
            reference = trained.reference(trajectory.condition, stored)
            kl = gaussian_kl(mean, reference, std).mean()
        yield Term(objective, kl, objective.loss + settings.kl * kl)


OBJECTIVES: dict[str, Callable[[Trained, Trajectory, Tensor], Iterator[Term]]] = {"grpo": grpo}
