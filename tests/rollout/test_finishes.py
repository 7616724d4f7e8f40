"""Images finished from trained steps: what gains are, who shares an image, and what is missing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from rolling import SHAPE, LinearPolicy, plan, roll, roller, sampler, some_tasks
from torch import Tensor

from likewise.rewards.function import FunctionReward
from likewise.rollout.finishes import AskedFinish, Finish, Finisher, add_finishes, starts
from likewise.rollout.layout import Indices
from likewise.rollout.scoring import Asked, Scores, join_scores
from likewise.rollout.solvers import integrate
from likewise.rollout.spoilt import AskedUsable
from likewise.rollout.steps import StepPlan
from likewise.rollout.trajectories import Roller, Trajectory
from likewise.types import Task

ALL = plan(range(4))
PLANS = {
    "all": ALL,
    "tail": plan([0, 1, 2]),
    "window": plan([1, 2]),
    "random": plan([0, 1, 2, 3], [0, 3]),
    "without the first": plan([0, 1, 2], [1]),
}
REWARD = torch.randn(SHAPE, generator=torch.Generator().manual_seed(9), dtype=torch.float64)


def linear_reward(x: Tensor) -> Tensor:
    """<a, x> of latents [n, *latent]."""
    return (x * REWARD).sum((1, 2))


def finished(source: Roller, batches: Sequence[Indices]) -> tuple[list[Trajectory], list[Finish]]:
    finisher, drawn, found = Finisher(source, True), [], []
    for indices in batches:
        drawn.append(source.draw(indices))
        found += finisher.finish(drawn[-1])
    return drawn, found


def rewards_before(
    source: Roller, batches: Sequence[Indices], score: Any = linear_reward
) -> Tensor:
    """R [B, T+1] by a reward of latents; NaN where no image was finished."""
    drawn, found = finished(source, batches)
    count = sum(len(indices) for indices in batches)
    table = torch.full((count, source.sampler.num_steps + 1), torch.nan, dtype=torch.float64)
    for one in found:
        table[list(one.indices), one.step] = score(one.latents)[list(one.images)]
    for one in drawn:
        for t in source.plan.trained:
            if t == max(source.plan.stochastic):
                table[list(one.indices), t + 1] = score(one.latents)
    return table


def test_where_latents_have_to_be_finished() -> None:
    assert starts(ALL) == (0, 1, 2, 3)
    assert starts(plan([1, 2])) == (1, 2)  # after 2 the sample itself goes on without noise
    assert starts(plan([0, 1, 2, 3], [0, 3])) == (0, 1, 3)
    assert starts(plan([0, 1, 2], [1])) == (1, 2)
    assert starts(StepPlan((), (0, 1))) == ()


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("steps", PLANS.values(), ids=PLANS)
@pytest.mark.parametrize("transition", ["flow-sde", "dance-sde"])
def test_a_gain_is_the_linear_image_of_the_noise(
    steps: StepPlan, shared: bool, transition: str
) -> None:
    """Where v is linear in x, the ODE carries what a step added to it on by one matrix."""
    policy = LinearPolicy(torch.float64)
    source = roller(policy, steps, shared=shared, transition=transition)
    (drawn,), _ = finished(source, [tuple(range(6))])
    found = rewards_before(source, [tuple(range(6))])
    sigmas = sampler(policy).sigmas.double()
    weight = policy.weight.detach().T
    assert [one.step for one in drawn.stored] == list(steps.trained)
    for one in drawn.stored:
        t = one.step
        v = policy.velocity(one.x, sigmas[t], drawn.condition).detach()
        added = one.following - (one.x + v * (sigmas[t + 1] - sigmas[t]))
        for s in range(t + 1, 4):
            added = added + (sigmas[s + 1] - sigmas[s]) * added @ weight
        gain = found[:, t + 1] - found[:, t]
        torch.testing.assert_close(gain, linear_reward(added), rtol=1e-5, atol=1e-6)
        assert gain.abs().min() > 1e-3


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize(
    "steps", [ALL, plan([0, 1, 2]), plan([1, 2])], ids=["all", "tail", "window"]
)
@pytest.mark.parametrize("score", [linear_reward, lambda x: x.sin().sum((1, 2))])
def test_gains_add_up_to_what_all_noise_did(steps: StepPlan, shared: bool, score: Any) -> None:
    """Over all SDE steps: the sample's reward less that of the image without any noise."""
    policy = LinearPolicy(torch.float64)
    source = roller(policy, steps, shared=shared)
    (drawn,) = roll(policy, steps, shared=shared)
    found = rewards_before(source, [(0, 1, 2), (3, 4, 5)], score)
    gains = found[:, 1:] - found[:, :-1]
    total = gains[:, list(steps.trained)].sum(1)
    first = drawn.stored[0]
    rest = range(first.step, 4)
    plain = integrate(policy, source.sampler, first.x, drawn.condition, rest)
    torch.testing.assert_close(total, score(drawn.latents) - score(plain))
    assert total.abs().min() > 1e-3


# ── who shares an image, and what it costs ──


def test_a_group_that_is_one_latent_is_finished_once() -> None:
    policy = LinearPolicy()
    levels = sampler(policy).sigmas.tolist()
    source = roller(policy, plan([1, 2]), tasks=3, group=4, micro=2, shared=True)
    batches = [tuple(range(at, at + 2)) for at in range(0, 12, 2)]
    drawn = [source.draw(indices) for indices in batches]
    policy.calls.clear()
    finisher = Finisher(source, True)
    found = [one for part in drawn for one in finisher.finish(part)]
    samples = {level: sum(n for at, n in policy.calls if at == level) for level in levels[:4]}
    assert list(samples.values()) == [0, 3, 3 + 12, 3 + 12]
    assert max(n for _, n in policy.calls) == 2  # no batch is larger than a micro-batch
    assert [(one.step, len(one.latents)) for one in found[:3]] == [(1, 2), (1, 1), (2, 2)]
    assert sorted(index for one in found if one.step == 1 for index in one.indices) == list(
        range(12)
    )


def test_nothing_is_finished_unless_it_is_needed() -> None:
    policy = LinearPolicy()
    source = roller(policy, ALL, shared=True)
    drawn = source.draw((0, 1))
    policy.calls.clear()
    assert Finisher(source, False).finish(drawn) == [] and policy.calls == []


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("steps", PLANS.values(), ids=PLANS)
def test_finishes_do_not_depend_on_the_split(steps: StepPlan, shared: bool) -> None:
    """Micro-batches, and processes that share a group: results are equal bit for bit."""
    whole = rewards_before(
        roller(LinearPolicy(), steps, shared=shared), [tuple(range(6))], linear_reward
    )
    assert whole[:, list(starts(steps))].isfinite().all()
    parts = torch.full_like(whole, torch.nan)
    for indices, batches in (((0, 1), [(0, 1)]), ((2, 3, 4, 5), [(2,), (3, 5), (4,)])):
        source = roller(LinearPolicy(), steps, indices=indices, micro=1, shared=shared)
        _, found = finished(source, batches)
        for one in found:
            assert set(one.indices) <= set(indices)
            parts[list(one.indices), one.step] = linear_reward(one.latents)[list(one.images)]
    own = list(starts(steps))
    assert torch.equal(parts[:, own], whole[:, own])


# ── scores ──


def first_pixel(images: Sequence[Any], tasks: Sequence[Task]) -> list[float]:
    return [
        image.getpixel((0, 0))[0] + 1000.0 * len(task.prompt)
        for image, task in zip(images, tasks, strict=True)
    ]


def scored(
    source: Roller, batches: Sequence[Indices], **rewards: Any
) -> list[tuple[Indices, Scores]]:
    """As a session asks; `late` is a diagnostic, about which finishes are not asked."""
    policy, tasks, size = source.policy, some_tasks(2), source.settings.group_size
    own = {name: FunctionReward(reward) for name, reward in rewards.items()}
    credited = {name: reward for name, reward in own.items() if name != "late"}
    drawn, found = finished(source, batches)
    asked: list[tuple[Indices, Asked]] = []
    for one in drawn:
        mine = [tasks[index // size] for index in one.indices]
        asked.append((one.indices, AskedUsable(own, policy.decode(one.latents), mine)))
    beside = [AskedFinish(one, credited, policy.decode(one.latents), tasks) for one in found]
    return add_finishes(
        [(indices, one.scores(0)) for indices, one in asked],
        [(one, one.scores(0)) for one in beside],
        list(own),
        source.plan,
        source.sampler.num_steps,
    )


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("steps", PLANS.values(), ids=PLANS)
def test_scores_stand_at_their_sample_and_step(steps: StepPlan, shared: bool) -> None:
    policy = LinearPolicy()
    source = roller(policy, steps, shared=shared)
    got = join_scores(scored(source, [(4, 1), (0, 5, 2, 3)], late=first_pixel, red=first_pixel))
    assert got.finished is not None and got.finished.shape == (2, 6, 5)

    def pixel(latents: Tensor) -> Tensor:
        return (policy.decode(latents)[:, 0, 0, 0] * 255).round().double()

    wanted = rewards_before(roller(policy, steps, shared=shared), [tuple(range(6))], pixel)
    prompts = torch.tensor([1000.0 * len(task.prompt) for task in some_tasks(2) for _ in range(3)])
    wanted = (wanted + prompts[:, None]).float()
    torch.testing.assert_close(got.finished[1], wanted, equal_nan=True, rtol=0, atol=0)
    asked = got.finished[1].isfinite().any(0)
    needed = {step for t in steps.trained for step in (t, t + 1)}
    assert asked.tolist() == [step in needed for step in range(5)]
    of_samples = [t + 1 for t in steps.trained if t == max(steps.stochastic)]
    assert got.finished[0].isfinite().any(0).tolist() == [step in of_samples for step in range(5)]
    assert torch.equal(
        got.finished[:, :, of_samples], got.values[..., None].expand(-1, -1, len(of_samples))
    )


def test_a_finish_that_cannot_be_scored_is_missing_and_says_why() -> None:
    """The two images of the fork are a call of their own: the second one."""
    calls: list[int] = []

    def fails_once(images: Sequence[Any], tasks: Sequence[Task]) -> list[float | None]:
        calls.append(len(images))
        if calls == [6, 2]:
            raise TimeoutError("busy")
        return [None, *first_pixel(images, tasks)[1:]]

    source = roller(LinearPolicy(), plan([1, 2]), shared=True)
    got = join_scores(scored(source, [tuple(range(6))], red=fails_once))
    assert calls == [6, 2, 6] and got.finished is not None
    assert got.finished[0].isfinite().tolist() == [
        [False, False, index != 0, index != 0, False] for index in range(6)
    ]
    assert (
        got.failures == {"red": "TimeoutError: busy"}
        and got.valid[0].tolist() == [False] + [True] * 5
    )


def test_a_process_without_samples_has_no_scores() -> None:
    assert add_finishes([], [], ["red"], ALL, 4) == []
