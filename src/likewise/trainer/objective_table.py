"""What an update minimises, one term after another: a table of objectives (docs/method.md §3).

An objective is one function of a micro-batch and its advantages that yields a loss for each forward
with gradient. `OBJECTIVES` names it by the `kind` of the recipe's section `objective`. The formulas
are in `algorithm.objective` and `algorithm.forward`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from likewise.algorithm.objective import (
    clipped_loss,
    gaussian_kl,
    guarded_ratio,
    inverse_dt,
    ratio,
)
from likewise.algorithm.transitions import gaussian_log_prob
from likewise.rollout.trajectories import StoredStep, Trajectory, replay_batches
from likewise.trainer.image_objectives import (
    IMAGE_LOSSES,
    Gather,
    ImageLoss,
    dgpo,
    image_terms,
    relative_to_group,
)
from likewise.trainer.terms import Term, Trained


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
        clipped = partial(clipped_loss, ratios, clip_range=settings.clip_range, weight=weight)
        objective = clipped(credit)
        kl = torch.zeros((), device=mean.device)
        if settings.kl > 0:
            reference = trained.reference(trajectory.condition, stored)
            kl = gaussian_kl(mean, reference, std).mean()
        means = {"loss": objective.loss, "kl": kl, **objective.ratios()}
        most = {"ratio_deviation": objective.ratio_deviation}
        yield Term(
            objective.loss + settings.kl * kl,
            means,
            most,
            loss_at=partial(_loss_at, clipped, stored),
            steps=torch.full((len(credit),), t),
        )


def _loss_at(clipped: Callable[..., Any], stored: StoredStep, advantages: Tensor) -> Tensor:
    """Of the same ratios at other advantages [b, T], without KL."""
    loss: Tensor = clipped(advantages[:, stored.step].to(stored.x.device)).loss
    return loss


@dataclass(frozen=True)
class Objective:
    """What an update needs of an objective.

    Attributes:
        terms: From a micro-batch of b samples and their advantages [b, T], one term per forward.
        batches: From what was drawn to the micro-batches of an update.
        terms_per_sample: From the recipe's section and the number of trained steps to how many
            terms of every sample there are.
        prepare: From an update's micro-batches, the advantages [B, T] of the iteration, and a
            function that gathers lists of all processes, to what `terms` is given instead of
            advantages, [B, …]; None: nothing has to be known of other samples.
    """

    terms: Callable[[Trained, Trajectory, Tensor], Iterator[Term]]
    batches: Callable[[Sequence[Trajectory]], Sequence[Trajectory]]
    terms_per_sample: Callable[[Any, int], int]
    prepare: Callable[[Trained, Sequence[Trajectory], Tensor, Gather], Tensor] | None = None


def on_images(terms: ImageLoss, prepare: Any = None) -> Objective:
    """An objective on finished images, from its loss."""
    return Objective(partial(image_terms, terms), list, lambda settings, _: settings.draws, prepare)


OBJECTIVES: dict[str, Objective] = {
    "grpo": Objective(grpo, replay_batches, lambda _, trained_steps: trained_steps),
    **{kind: on_images(loss) for kind, loss in IMAGE_LOSSES.items()},
    "dgpo": on_images(dgpo, relative_to_group),
}
