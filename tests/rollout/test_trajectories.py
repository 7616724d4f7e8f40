"""Drawing: exact along the ODE, right in distribution, and the same however it is split up."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from rolling import PROMPTS, SHAPE, LinearPolicy, plan, roll, roller, sampler, some_tasks
from tiny import a_task, make_policy
from torch import Tensor

from likewise import protocols
from likewise.algorithm.transitions import gaussian_log_prob
from likewise.policies.flux_kontext import FluxKontextPolicy
from likewise.rollout.trajectories import Trajectory, draw_images, integrate, iteration_seed
from likewise.seeding import derive_seed

ALL = plan(range(4))


def joined(parts: list[Trajectory], name: str) -> Tensor:
    """``latents`` of all samples, or a field of all their stored steps, [N, B]."""
    if name == "latents":
        return torch.cat([part.latents for part in parts])
    steps = zip(*[part.stored for part in parts], strict=True)
    return torch.stack([torch.cat([getattr(one, name) for one in step]) for step in steps])


def test_the_linear_policy_is_a_policy() -> None:
    policy = LinearPolicy()
    assert isinstance(policy, protocols.Policy)
    assert isinstance(policy.encode(some_tasks(1)), protocols.Condition)


# ── the ODE ──


@pytest.mark.parametrize("options", [{}, {"guidance_embeds": True, "true_cfg_scale": 2.0}])
def test_following_the_ode_is_the_stock_pipeline(options: dict[str, Any]) -> None:
    policy = make_policy(**options)
    task = a_task("a red duck in the snow")
    how = sampler(policy, 3)
    ours = integrate(policy, how, policy.initial_noise([11]), policy.encode([task]), range(3))
    cfg = {"true_cfg_scale": 2.0, "negative_prompt": ""} if options else {}
    theirs = policy.pipeline(
        image=task.reference,
        prompt=task.prompt,
        height=16,
        width=24,
        max_area=16 * 24,
        num_inference_steps=3,
        generator=torch.Generator().manual_seed(11),
        max_sequence_length=8,
        output_type="latent",
        _auto_resize=False,
        **cfg,
    ).images
    assert float((ours - theirs).abs().max()) == 0.0
    assert ours.std() > 0.1


def test_integration_in_parts_is_integration_at_once() -> None:
    policy = LinearPolicy()
    how, condition, x = sampler(policy), policy.encode(some_tasks(2)), policy.initial_noise([1, 2])
    half = integrate(policy, how, x, condition, range(2))
    whole = integrate(policy, how, x, condition, range(4))
    assert torch.equal(integrate(policy, how, half, condition, range(2, 4)), whole)
    assert torch.equal(integrate(policy, how, x, condition, range(0)), x)


@pytest.mark.parametrize("policy", [LinearPolicy(), make_policy()], ids=["linear", "tiny"])
def test_images_depend_on_their_task_alone(policy: Any) -> None:
    tasks, how = some_tasks(5), sampler(policy, 2)

    def seed_of(task: Any) -> int:
        return derive_seed("test", task.id)

    one_by_one = draw_images(policy, how, tasks, 1, seed_of)
    together = draw_images(policy, how, tasks, 3, seed_of)
    backwards = draw_images(policy, how, tasks[::-1], 5, seed_of, decode_batch=2)[::-1]
    for a, b, c in zip(one_by_one, together, backwards, strict=True):
        assert a.ndim == 3 and a.dtype == torch.float32 and 0 <= a.min() <= a.max() <= 1
        assert (a - b).abs().max() < 1e-5 and (a - c).abs().max() < 1e-5
    assert (one_by_one[0] - one_by_one[1]).abs().max() > 0.01
    noise = policy.initial_noise([seed_of(tasks[0])])
    latents = integrate(policy, how, noise, policy.encode(tasks[:1]), range(2))
    assert torch.equal(policy.decode(latents)[0], one_by_one[0])
    assert draw_images(policy, how, [], 3, seed_of) == []


# ── independence of the split ──


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("steps", [ALL, plan([2, 3], [3])], ids=["all", "window"])
def test_samples_do_not_depend_on_micro_batches(shared: bool, steps: Any) -> None:
    policy = make_policy()
    whole = roll(policy, steps, shared=shared)
    for micro in (1, 4):
        parts = roll(policy, steps, micro=micro, shared=shared)
        assert [index for part in parts for index in part.indices] == list(range(6))
        for name in ("latents", "x", "following", "log_prob"):
            assert (joined(parts, name) - joined(whole, name)).abs().max() < 1e-5


def test_seeds_do_not_depend_on_micro_batches_at_all() -> None:
    """The linear policy has no rounding that depends on the batch."""
    whole = roll(LinearPolicy(), ALL)
    for micro in (1, 2, 5):
        parts = roll(LinearPolicy(), ALL, micro=micro)
        for name in ("latents", "x", "following", "log_prob"):
            assert torch.equal(joined(parts, name), joined(whole, name))


@pytest.mark.parametrize("shared", [False, True])
def test_a_process_draws_its_samples_as_if_it_drew_all(shared: bool) -> None:
    steps = plan([1, 2])
    whole = roll(LinearPolicy(), steps, tasks=3, shared=shared)[0]
    policy = LinearPolicy()
    part = roller(policy, steps, tasks=3, indices=(4, 5, 6, 7), shared=shared).draw((4, 6, 7))
    assert policy.encoded == list(PROMPTS[1:3])  # the task of samples 0 to 2 is not touched
    assert torch.equal(part.latents, whole.latents[[4, 6, 7]])
    assert part.indices == (4, 6, 7)


@pytest.mark.parametrize("shared", [False, True])
def test_a_sample_does_not_depend_on_other_tasks(shared: bool) -> None:
    policy = make_policy()
    tasks = some_tasks(2)
    before = roll(policy, ALL, tasks=tasks, shared=shared)[0]
    after = roll(policy, ALL, tasks=[tasks[0], a_task("blue snow")], shared=shared)[0]
    assert (before.latents[:3] - after.latents[:3]).abs().max() < 1e-6
    assert (before.latents[3:] - after.latents[3:]).abs().max() > 0.01


# ── noise ──


def test_samples_tasks_iterations_and_steps_have_own_noise() -> None:
    policy = LinearPolicy()
    seeds = [iteration_seed(0, 1), iteration_seed(0, 2), iteration_seed(1, 1)]
    (first,), (second,), (third,) = (roll(policy, ALL, seed=seed) for seed in seeds)
    noises = []
    for drawn in (first, second, third):
        noises += drawn.stored[0].x.flatten(1).unbind()
        for one in drawn.stored:
            v = policy.velocity(one.x, sampler(policy).sigmas[one.step],
                                drawn.condition)  # fmt: skip
            mean, std = sampler(policy).stochastic(one.x, v, one.step)
            noises += ((one.following - mean) / std).detach().flatten(1).unbind()
    table = torch.stack(noises)
    assert len(table) == 3 * 6 * 5
    apart = torch.cdist(table, table) + 99 * torch.eye(len(table))
    assert apart.min() > 0.5


def test_the_noise_of_a_step_is_standard_normal_and_white() -> None:
    policy = LinearPolicy()
    (drawn,) = roll(policy, plan([0, 1]), tasks=4, group=100, micro=400)
    kept = []
    for one in drawn.stored:
        v = policy.velocity(one.x, sampler(policy).sigmas[one.step], drawn.condition)
        mean, std = sampler(policy).stochastic(one.x, v.detach(), one.step)
        kept.append(((one.following - mean) / std).flatten(1))
    noise = torch.cat([drawn.stored[0].x.flatten(1), *kept], dim=1)  # [400, 3·12]
    assert abs(float(noise.mean())) < 4 / math.sqrt(noise.numel())
    assert abs(float(noise.std()) - 1) < 4 / math.sqrt(2 * noise.numel())
    correlation = torch.corrcoef(noise.T) - torch.eye(36)
    assert correlation.abs().max() < 5 / math.sqrt(400)


# ── shared noise ──


def test_a_group_may_share_its_initial_noise() -> None:
    policy = LinearPolicy()
    (drawn,) = roll(policy, ALL, shared=True)
    start = drawn.stored[0].x
    for task in range(2):
        expected = policy.initial_noise([derive_seed(5, "initial noise", task)])
        assert torch.equal(start[3 * task : 3 * task + 3], expected.expand(3, *SHAPE))
    assert not torch.equal(start[0], start[3])
    following = drawn.stored[0].following
    assert all(not torch.equal(following[a], following[b]) for a in range(3) for b in range(a))
    (own,) = roll(policy, ALL, shared=False)
    assert not torch.equal(own.stored[0].x[0], own.stored[0].x[1])


def test_steps_before_the_noise_are_computed_once_per_task() -> None:
    policy = LinearPolicy()
    steps = plan([2, 3])
    levels = sampler(policy).sigmas.tolist()
    (drawn,) = roll(policy, steps, tasks=3, group=4, micro=100, shared=True)
    assert policy.calls == [(levels[0], 3), (levels[1], 3), (levels[2], 3), (levels[3], 12)]
    assert policy.encoded == list(PROMPTS[:3])
    policy.calls.clear()
    parts = roll(policy, steps, tasks=3, group=4, micro=2, shared=True)
    samples = {level: sum(n for at, n in policy.calls if at == level) for level in levels[:4]}
    assert list(samples.values()) == [3, 3, 3, 12]
    assert max(n for _, n in policy.calls) == 2
    assert torch.equal(joined(parts, "latents"), drawn.latents)
    start = policy.initial_noise([derive_seed(5, "initial noise", task) for task in range(3)])
    fork = integrate(policy, sampler(policy), start, policy.encode(some_tasks(3)), range(2))
    assert torch.equal(drawn.stored[0].x, fork.repeat_interleave(4, 0))


def test_without_shared_noise_every_sample_takes_every_step() -> None:
    policy = LinearPolicy()
    roll(policy, plan([2, 3]), shared=False)
    assert [samples for _, samples in policy.calls] == [6] * 4


# ── what is kept ──


@pytest.mark.parametrize("transition", ["flow-sde", "dance-sde", "cps"])
@pytest.mark.parametrize("make", [LinearPolicy, make_policy], ids=["linear", "tiny"])
def test_stored_transitions_are_those_that_were_drawn(make: Any, transition: str) -> None:
    policy = make()
    how = sampler(policy, 4, transition)
    (drawn,) = roll(policy, plan([0, 1, 2]), transition=transition, means=True)
    assert [one.step for one in drawn.stored] == [0, 1, 2]
    for one, after in zip(drawn.stored, (*drawn.stored[1:], None), strict=True):
        with torch.no_grad():
            v = policy.velocity(one.x, how.sigmas[one.step], drawn.condition)
        mean, std = how.stochastic(one.x, v, one.step)
        assert torch.equal(one.log_prob, gaussian_log_prob(one.following, mean, std))
        normal = torch.distributions.Normal(mean, std.expand_as(mean))
        scores = normal.log_prob(one.following).flatten(1).mean(1)
        torch.testing.assert_close(one.log_prob, scores, rtol=1e-4, atol=1e-5)
        assert torch.equal(one.mean, mean)
        assert one.log_prob.shape == (6,) and one.log_prob.dtype == torch.float32
        assert not any(part.requires_grad for part in (one.x, one.following, one.mean))
        assert after is None or torch.equal(one.following, after.x)
    last = drawn.stored[-1].following
    assert torch.equal(integrate(policy, how, last, drawn.condition, range(3, 4)), drawn.latents)


def test_only_trained_transitions_are_kept() -> None:
    (all_kept,) = roll(LinearPolicy(), ALL)
    (some,) = roll(LinearPolicy(), plan(range(4), [1, 3]))
    assert [one.step for one in some.stored] == [1, 3]
    for one in some.stored:
        same = all_kept.stored[one.step]
        assert torch.equal(one.x, same.x) and torch.equal(one.log_prob, same.log_prob)
        assert one.mean is None
    assert torch.equal(some.latents, all_kept.latents)  # training chooses; drawing is the same


def test_a_window_is_surrounded_by_the_ode() -> None:
    policy = LinearPolicy()
    (drawn,) = roll(policy, plan([1, 2]))
    how, condition = sampler(policy), drawn.condition
    seeds = [derive_seed(5, "initial noise", *divmod(index, 3)) for index in range(6)]
    start = integrate(policy, how, policy.initial_noise(seeds), condition, range(1))
    assert torch.equal(drawn.stored[0].x, start)
    end = integrate(policy, how, drawn.stored[-1].following, condition, range(3, 4))
    assert torch.equal(drawn.latents, end)


def test_drawing_leaves_no_gradient() -> None:
    policy: FluxKontextPolicy = make_policy()
    policy.add_lora(2, 4)
    (drawn,) = roll(policy, ALL, shared=True)
    assert not drawn.latents.requires_grad
    assert all(not one.log_prob.requires_grad for one in drawn.stored)


@pytest.mark.parametrize("shared", [False, True])
def test_a_process_may_have_nothing_to_draw(shared: bool) -> None:
    """Two samples among three processes (`layout`)."""
    roller(make_policy(), plan([1]), indices=(), shared=shared)
