"""Objectives on finished images: noise them again, and compare predictions (docs/method.md §3).

All of them see the same draws of level and noise, which the samples of a group share.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor

from likewise.algorithm import forward
from likewise.algorithm.levels import draw_levels, step_of
from likewise.algorithm.objective import clipped_loss, ratio
from likewise.rollout.trajectories import Trajectory
from likewise.seeding import derive_seed
from likewise.trainer.terms import Term, Trained

Gather = Callable[[list[Any]], list[Any]]  # lists of all processes, joined


@dataclass(frozen=True)
class Noised:
    """The finished latents of b samples, noised once.

    Attributes:
        x0, x, target: [b, …]: finished, noised, and what a perfect model predicts at `x`.
        sigma: Levels [b].
        steps: Of the schedule, in whose interval the levels lie, int64 [b] on the CPU.
        kind: What the model predicts.
    """

    x0: Tensor
    x: Tensor
    target: Tensor
    sigma: Tensor
    steps: Tensor
    kind: forward.Prediction


class Predicted(NamedTuple):
    """What the loss of a draw is made of.

    Attributes:
        noised: Where the predictions were made.
        v, v_old: Of the policy, with gradient, and of the old one, without.
        credit: Advantage of each sample at its level, [b].
    """

    noised: Noised
    v: Tensor
    v_old: Tensor
    credit: Tensor


# (what was predicted, the recipe's section) → the term, before regularisers
ImageLoss = Callable[[Predicted, Any], Term]


def nft(found: Predicted, settings: Any) -> Term:
    """DiffusionNFT: see `forward.nft_loss`."""
    at = found.noised
    losses = forward.nft_loss(
        *(found.v, found.v_old, at.x, at.x0, at.sigma, found.credit),
        settings.beta,
        settings.max_advantage,
        at.kind,
    )
    return _plain(losses.mean())


def awm(found: Predicted, settings: Any) -> Term:
    """Advantage-weighted matching: see `forward.matching_log_prob`."""
    at = found.noised
    new, old = (
        forward.matching_log_prob(v, at.target, at.sigma, settings.level_power)
        for v in (found.v, found.v_old)
    )
    objective = clipped_loss(ratio(new, old), found.credit, settings.clip_range)
    means = {"loss": objective.loss, **objective.ratios()}
    return Term(objective.loss, means, {"ratio_deviation": objective.ratio_deviation})


def crd(found: Predicted, settings: Any) -> Term:
    """CRD: see `forward.crd_loss`."""
    target = found.noised.target
    return _plain(
        forward.crd_loss(found.v, found.v_old, target, found.credit, settings.beta).mean()
    )


# Losses that are means over samples, by `kind`. A new one is a function and a row here.
IMAGE_LOSSES: dict[str, ImageLoss] = {"nft": nft, "awm": awm, "crd": crd}


def dgpo(found: Predicted, settings: Any) -> Term:
    """DGPO, with what `relative_to_group` makes of advantages: see `forward.group_preference`."""
    errors = forward.squared_error(found.v, found.noised.target)
    return _plain((settings.beta * found.credit * errors).mean())


def image_terms(
    loss: ImageLoss, trained: Trained, trajectory: Trajectory, advantages: Tensor
) -> Iterator[Term]:
    """A term for each draw, regularisers included.

    Args:
        trajectory: b samples with their finished latents.
        advantages: Theirs at each step, [b, T]; or at each draw, [b, draws], for `dgpo`.
    """
    settings, condition = trained.settings, trajectory.condition
    by_draw = settings.of_groups
    for draw in range(settings.draws):
        at = noised(trained, trajectory, draw)
        columns = torch.full_like(at.steps, draw) if by_draw else at.steps
        credit = _at_level(advantages, columns, at)
        v_old = _old_velocity(trained, at, trajectory)
        v = trained.policy.velocity(at.x, at.sigma, condition)
        found = Predicted(at, v, v.detach() if v_old is None else v_old, credit)
        term = _regularised(loss(found, settings), found, trained, trajectory)
        if by_draw:  # one loss of a whole group, which is not the sum of its samples'
            yield term
            continue
        yield replace(term, loss_at=partial(_loss_at, loss, found, settings), steps=at.steps)


def _loss_at(loss: ImageLoss, found: Predicted, settings: Any, advantages: Tensor) -> Tensor:
    """Of the same predictions at other advantages [b, T], before regularisers."""
    at = found.noised
    return loss(found._replace(credit=_at_level(advantages, at.steps, at)), settings).loss


def _at_level(advantages: Tensor, columns: Tensor, at: Noised) -> Tensor:
    """One of each sample's advantages [b, …], like the latents: [b]."""
    return advantages.gather(1, columns[:, None])[:, 0].to(at.x)


def noised(trained: Trained, trajectory: Trajectory, draw: int) -> Noised:
    """Draw number `draw` of a micro-batch; it depends on seed, task and number alone."""
    settings, policy, sigmas = trained.settings, trained.policy, trained.sampler.sigmas
    numbers = list(dict.fromkeys(trajectory.tasks))
    levels = torch.stack(
        [
            draw_levels(
                settings.levels,
                sigmas,
                settings.draws,
                derive_seed(trajectory.seed, "levels", number),
            )[draw]
            for number in numbers
        ]
    )
    noise = policy.initial_noise(
        [derive_seed(trajectory.seed, "noised", number, draw) for number in numbers]
    )
    own = torch.tensor([numbers.index(number) for number in trajectory.tasks])
    sigma, noise = levels[own], noise[own.to(noise.device)]
    x0, kind = trajectory.latents, cast(forward.Prediction, policy.parameterization)
    return Noised(
        x0,
        forward.noised(x0, noise, sigma, kind),
        forward.target(x0, noise, sigma, kind),
        sigma.to(x0.device),
        step_of(sigma, sigmas),
        kind,
    )


@torch.no_grad()
def relative_to_group(
    trained: Trained, trajectories: Sequence[Trajectory], advantages: Tensor, gather: Gather
) -> Tensor:
    """DGPO's weight of each sample at each draw, [B, draws]: sigmoid(D)·A, D of its whole group.

    Groups may span micro-batches and processes.
    """
    settings = trained.settings
    own = []
    for one in trajectories:
        for draw in range(settings.draws):
            at = noised(trained, one, draw)
            v = trained.policy.velocity(at.x, at.sigma, one.condition)
            base = trained.reference_velocity(at.x, at.sigma, one.condition)
            errors = [forward.squared_error(each, at.target).cpu() for each in (v, base)]
            credit = _at_level(advantages[list(one.indices)], at.steps, at).cpu()
            own.append((draw, one.tasks, one.indices, *errors, credit))
    weights = torch.zeros(len(advantages), settings.draws)
    every = gather(own)
    for draw in range(settings.draws):
        parts = [part for part in every if part[0] == draw]
        tasks = torch.tensor([task for part in parts for task in part[1]])
        indices = torch.tensor([index for part in parts for index in part[2]])
        found, base, credit = (torch.cat([part[k] for part in parts]) for k in (3, 4, 5))
        for task in tasks.unique():
            group = tasks == task
            factor = forward.group_preference(
                found[group], base[group], credit[group], settings.beta
            )
            weights[indices[group], draw] = (factor * credit[group]).to(weights)
    return weights


def _old_velocity(trained: Trained, at: Noised, trajectory: Trajectory) -> Tensor | None:
    """None where it is the policy's own. Before any forward with gradient: weights are swapped."""
    old = trained.old
    if old is None or old.is_current:
        return None
    with torch.no_grad(), old.applied():
        return trained.policy.velocity(at.x, at.sigma, trajectory.condition)


def _regularised(term: Term, found: Predicted, trained: Trained, trajectory: Trajectory) -> Term:
    """With the velocity KLs and the norm guard."""
    settings, at, v = trained.settings, found.noised, found.v
    loss, means = term.loss, dict(term.means)
    means["error"] = forward.squared_error(v.detach(), at.target).mean()
    if settings.kl_old > 0:
        means["kl_old"] = forward.squared_error(v, found.v_old).mean()
        loss = loss + settings.kl_old * means["kl_old"]
    if not settings.needs_reference:
        return _with_norm(Term(loss, means, term.most), found, trained, trajectory)
    base = trained.reference_velocity(at.x, at.sigma, trajectory.condition)
    means["kl"] = forward.squared_error(v, base).mean()
    means["norm_ratio"] = forward.norm_ratio(v.detach(), base).mean()
    loss = loss + settings.kl * means["kl"]
    if settings.norm_guard > 0:
        loss = loss + settings.norm_guard * forward.norm_penalty(v, base).mean()
    return Term(loss, means, term.most)


def _with_norm(term: Term, found: Predicted, trained: Trained, trajectory: Trajectory) -> Term:
    """How far the norm has grown is always logged: of one sample per group, which costs little."""
    group, at = trajectory.group_size, found.noised
    first = [b for b, index in enumerate(trajectory.indices) if index % group == 0]
    if not first or not trained.has_reference:
        return term
    condition = trajectory.condition.select(first)
    base = trained.reference_velocity(at.x[first], at.sigma[first], condition)
    means = {**term.means, "norm_ratio": forward.norm_ratio(found.v[first].detach(), base).mean()}
    return Term(term.loss, means, term.most, {"norm_ratio": len(first)})


def _plain(loss: Tensor) -> Term:
    return Term(loss, {"loss": loss})
