"""Updates from finished images are those of the written-out losses (docs/method.md §3)."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from rolling import LinearPolicy, plan, roll, sampler
from torch import Tensor
from torch.nn import functional as F

from likewise.algorithm.levels import draw_levels, step_of
from likewise.config.objectives import Average, Awm, Crd, Dgpo, Nft, OnPolicy
from likewise.rollout.trajectories import Trajectory
from likewise.seeding import derive_seed
from likewise.trainer.old import OldWeights
from likewise.trainer.terms import Trained
from likewise.trainer.update import Update

EXACT = torch.float64
STEPS, DRAWS = 4, 2
SECTIONS: dict[str, Any] = {
    "nft": Nft(draws=DRAWS, beta=0.7, max_advantage=1.5),
    "nft on any level": Nft(draws=DRAWS, levels="uniform", kl=0.2, kl_old=0.3),
    "nft with a guarded norm": Nft(draws=DRAWS, levels="logit-normal", norm_guard=5.0),
    "awm": Awm(draws=DRAWS, clip_range=0.02, level_power=1.0),
    "dgpo": Dgpo(draws=DRAWS, beta=3.0, kl=0.1),
    "crd": Crd(draws=DRAWS, beta=0.5),
}
Parts = list[Tensor]


def moved(policy: LinearPolicy, amount: float = 0.05, seed: int = 1) -> None:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in policy.trainable_parameters():
            parameter += amount * torch.randn(parameter.shape, generator=generator, dtype=EXACT)


def trained(section: Any) -> tuple[Trained, Parts]:
    """A policy that has learned since it drew, and the weights with which it drew."""
    policy = LinearPolicy(EXACT)
    moved(policy, seed=4)  # away from the frozen reference
    old = OldWeights(policy.trainable_parameters(), OnPolicy())
    weights = [one.clone() for one in old.weights]
    moved(policy)
    old.after_step()
    return Trained(policy, sampler(policy, STEPS), section, old), weights


def drawn(how: Trained, micro: int = 100) -> list[Trajectory]:
    return roll(how.policy, plan([]), micro=micro, num_steps=STEPS)  # type: ignore[arg-type]


def credits() -> Tensor:
    return torch.randn(6, STEPS, generator=torch.Generator().manual_seed(7), dtype=EXACT)


def gradients(how: Trained) -> Parts:
    found = []
    for parameter in how.policy.trainable_parameters():
        assert parameter.grad is not None
        found.append(parameter.grad)
        parameter.grad = None
    return found


def velocity(parts: Parts, x: Tensor, sigma: Tensor, c: Tensor) -> Tensor:
    return x @ parts[0].T + sigma * parts[1] + c


def written_out(
    section: Any, policy: LinearPolicy, new: Parts, old: Parts, batch: Trajectory, A: Tensor
) -> Tensor:
    """The mean over samples and draws, one after another."""
    sigmas = policy.sigmas(STEPS, None)
    c = batch.condition.vectors  # type: ignore[attr-defined]
    total = torch.zeros((), dtype=EXACT)
    apart: dict[tuple[int, int], Tensor] = {}  # DGPO's, by task and draw
    for b, index in enumerate(batch.indices):
        task, x0 = index // 3, batch.latents[b]
        levels = draw_levels(section.levels, sigmas, DRAWS, derive_seed(batch.seed, "levels", task))
        for draw, level in enumerate(levels.to(EXACT)):
            seed = derive_seed(batch.seed, "noised", task, draw)
            noise = policy.initial_noise([seed])[0]
            x, u = (1 - level) * x0 + level * noise, noise - x0
            v, v_old, v_ref = (
                velocity(parts, x, level, c[b]) for parts in (new, old, policy.reference)
            )
            credit = A[index, int(step_of(level, sigmas))]
            error, old_error, ref_error = ((y - u).square().mean() for y in (v, v_old, v_ref))
            if section.kind == "nft":
                beta, most = section.beta, section.max_advantage
                r = 0.5 + 0.5 * (credit / most).clamp(-1, 1)
                away = [
                    x - level * y - x0
                    for y in ((1 - beta) * v_old + beta * v, (1 + beta) * v_old - beta * v)
                ]
                good, bad = (one.square().mean() / one.detach().abs().mean() for one in away)
                loss = most / beta * (r * good + (1 - r) * bad)
            elif section.kind == "awm":
                ratio = (level * (old_error - error)).exp()
                near = ratio.clamp(1 - section.clip_range, 1 + section.clip_range)
                loss = torch.maximum(-credit * ratio, -credit * near)
            elif section.kind == "crd":
                loss = (section.beta * (old_error - error) - credit).square()
            else:
                key = task, draw
                apart[key] = apart.get(key, 0) + credit * (error - ref_error) / 3
                loss = torch.zeros(())
            growth = F.relu(v.norm() / v_ref.norm() - 1).square()
            total = total + loss + section.norm_guard * growth
            total = total + section.kl * (v - v_ref).square().mean()
            total = total + section.kl_old * (v - v_old).square().mean()
    preferences = [3 * F.softplus(section.beta * one) for one in apart.values()]
    return (total + sum(preferences)) / (len(batch.indices) * DRAWS)


@pytest.mark.parametrize("name", SECTIONS)
def test_the_gradient_is_that_of_the_written_out_loss(name: str) -> None:
    how, old = trained(SECTIONS[name])
    (batch,) = drawn(how)
    A = credits()
    sums = Update(how).gradient([batch], A, 6 * DRAWS)
    ours, policy = gradients(how), how.policy
    assert isinstance(policy, LinearPolicy)
    parts = [p.detach().clone().requires_grad_() for p in policy.trainable_parameters()]
    loss = written_out(how.settings, policy, parts, old, batch, A)
    for mine, theirs in zip(ours, torch.autograd.grad(loss, parts), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-6, atol=1e-9)
        assert mine.norm() > 1e-3
    assert sums.terms == 6 * DRAWS
    assert sums.sums["norm_ratio"] / sums.counts["norm_ratio"] != 1
    if name == "awm":
        assert 0 < sums.sums["silenced_fraction"] < 6 * DRAWS  # some are clipped, some are not


@pytest.mark.parametrize("name", SECTIONS)
def test_micro_batches_change_nothing(name: str) -> None:
    """Groups span them; DGPO needs whole groups all the same."""
    how, _ = trained(SECTIONS[name])
    A = credits()
    found = []
    for micro in (6, 4, 1):
        sums = Update(how).gradient(drawn(how, micro), A, 6 * DRAWS)
        found.append((gradients(how), sums))
    for parts, sums in found[1:]:
        for one, other in zip(parts, found[0][0], strict=True):
            torch.testing.assert_close(one, other)
        assert sums.sums == pytest.approx(found[0][1].sums)
        assert sums.counts == found[0][1].counts


@pytest.mark.parametrize("name", ["nft", "awm", "dgpo", "crd"])
def test_without_credit_nothing_is_learned(name: str) -> None:
    section = SECTIONS[name].model_copy(update={"kl": 0.0})
    policy = LinearPolicy(EXACT)
    old = OldWeights(policy.trainable_parameters(), OnPolicy())
    how = Trained(policy, sampler(policy, STEPS), section, old)
    Update(how).gradient(drawn(how), torch.zeros(6, STEPS), 12)
    assert [float(one.abs().max()) for one in gradients(how)] == [0, 0]


def test_an_old_policy_that_is_the_new_one_costs_no_forward() -> None:
    policy = LinearPolicy(EXACT)
    old = OldWeights(policy.trainable_parameters(), OnPolicy())
    how = Trained(policy, sampler(policy, STEPS), SECTIONS["nft"], old, has_reference=False)
    batch = drawn(how)
    policy.calls.clear()
    Update(how).gradient(batch, credits(), 12)
    assert [samples for _, samples in policy.calls] == [6] * DRAWS
    old.after_step()
    policy.calls.clear()
    Update(how).gradient(batch, credits(), 12)
    assert [samples for _, samples in policy.calls] == [6] * 2 * DRAWS


def test_samples_of_a_group_share_levels_and_noise() -> None:
    from likewise.trainer.image_objectives import noised

    how, _ = trained(SECTIONS["nft on any level"])
    (batch,) = drawn(how)
    for draw in range(DRAWS):
        at = noised(how, batch, draw)
        noise = (at.x - (1 - at.sigma[:, None, None]) * at.x0) / at.sigma[:, None, None]
        for group in (slice(0, 3), slice(3, 6)):
            assert len(at.sigma[group].unique()) == 1
            torch.testing.assert_close(noise[group], noise[group][:1].expand(3, -1, -1))
        assert at.sigma[0] != at.sigma[3]


def test_the_average_follows_the_published_schedule() -> None:
    parameter = torch.nn.Parameter(torch.zeros(2))
    old = OldWeights([parameter], Average(rate=0.2, most=0.5))
    wanted = torch.zeros(2)
    for iteration in range(1, 6):
        with torch.no_grad():
            parameter += 1
        old.after_step()
        old.after_iteration()
        share = min(0.2 * iteration, 0.5)
        wanted = share * wanted + (1 - share) * parameter.detach()
        torch.testing.assert_close(old.weights[0], wanted)
        assert not old.is_current
    with old.applied():
        torch.testing.assert_close(parameter.detach(), wanted)
    assert parameter.tolist() == [5, 5]
