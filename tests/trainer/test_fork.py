"""Where groups are still one latent, one forward for each is enough, in rollout and replay."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from rolling import LinearPolicy, plan, roll, roller, sampler
from tiny import make_policy
from torch import Tensor

from likewise.config.learning import Optimizer
from likewise.config.objectives import Grpo
from likewise.config.rollout import Rollout
from likewise.rollout.layout import micro_batches
from likewise.rollout.trajectories import Trajectory, replay_batches
from likewise.trainer.terms import Trained
from likewise.trainer.update import Update, UpdateSums

SETTINGS = [{}, {"guard": True, "inverse_dt": True, "kl": 0.3}]


def credits(samples: int = 6) -> Tensor:
    return torch.randn(samples, 4, generator=torch.Generator().manual_seed(7))


def gradient(
    policy: Any, drawn: list[Trajectory], **settings: Any
) -> tuple[UpdateSums, list[Tensor]]:
    how = Update(Trained(policy, sampler(policy), Grpo(**settings)))
    sums = how.gradient(drawn, credits(), sum(len(one.indices) * len(one.stored) for one in drawn))
    found = [p.grad.clone() for p in policy.trainable_parameters() if p.grad is not None]
    for parameter in policy.trainable_parameters():
        parameter.grad = None
    return sums, found


def unshared(drawn: Trajectory) -> Trajectory:
    """The same steps as if nobody knew what their latents have in common."""
    return replace(
        drawn, stored=tuple(replace(s, fork=None, task_index=None) for s in drawn.stored)
    )


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
@pytest.mark.parametrize("steps", [plan([1, 2]), plan([0, 1, 2], [0, 2])], ids=["window", "random"])
@pytest.mark.parametrize("make", [lambda: LinearPolicy(torch.float64), make_policy])
def test_the_gradient_is_that_of_a_forward_per_sample(
    make: Any, steps: Any, settings: dict[str, Any]
) -> None:
    policy = make()
    if not isinstance(policy, LinearPolicy):
        policy.add_lora(2, 4)
    (drawn,) = roll(policy, steps, shared=True, means=True)
    sums, found = gradient(policy, [drawn], **settings)
    wanted_sums, wanted = gradient(policy, [unshared(drawn)], **settings)
    assert sums.terms == wanted_sums.terms == 12
    assert sums.sums["loss"] == pytest.approx(wanted_sums.sums["loss"], rel=1e-5)
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6 * float(other.abs().max()))
    assert any(one.norm() > 1e-4 for one in wanted)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_ratios_are_exactly_one(dtype: torch.dtype) -> None:
    policy = make_policy(dtype)
    policy.add_lora(2, 4)
    drawn = roll(policy, plan([1, 2]), tasks=3, group=2, micro=2, shared=True)
    sums, _ = gradient(policy, drawn)
    assert sums.most["ratio_deviation"] == 0.0 and sums.terms == 12


def test_an_update_takes_one_forward_per_group_at_the_fork() -> None:
    policy = LinearPolicy()
    drawn = roll(policy, plan([1, 2]), tasks=3, group=2, micro=4, shared=True)
    levels = sampler(policy).sigmas.tolist()
    policy.calls.clear()
    gradient(policy, drawn)
    assert policy.calls == [(levels[1], 3), (levels[2], 4), (levels[2], 2)]


def test_updates_that_split_groups_replay_the_fork_each() -> None:
    """Two updates, each with a sample of all three groups; the second one's policy has moved."""
    policy = LinearPolicy(torch.float64)
    rollout = Rollout(tasks=3, group_size=2, micro_batch=2)
    optimizer = Optimizer(updates_per_iteration=2, split="samples")
    layout = micro_batches(rollout, optimizer, 1, 0)
    assert layout == [[(0, 2), (4,)], [(1, 3), (5,)]]
    source = roller(policy, plan([1, 2]), tasks=3, group=2, micro=2, shared=True)
    updates = [[source.draw(batch) for batch in update] for update in layout]
    first, second = sampler(policy).sigmas.tolist()[1:3]
    for number, drawn in enumerate(updates):
        policy.calls.clear()
        sums, found = gradient(policy, drawn)
        assert policy.calls == [(first, 2), (first, 1), (second, 2), (second, 1)]
        assert (sums.most["ratio_deviation"] > 1e-4) == (number > 0) and sums.terms == 6
        wanted_sums, wanted = gradient(policy, [unshared(one) for one in drawn])
        assert sums.sums["clip_fraction"] == wanted_sums.sums["clip_fraction"]
        for one, other in zip(found, wanted, strict=True):
            torch.testing.assert_close(one, other)
        with torch.no_grad():
            for parameter, slope in zip(policy.trainable_parameters(), found, strict=True):
                parameter -= 0.05 * slope / slope.norm()


def test_a_step_at_the_fork_that_is_not_trained_is_not_replayed() -> None:
    (drawn,) = roll(LinearPolicy(), plan([0, 1, 2], [2]), shared=True)
    (batch,) = replay_batches([drawn])
    assert [one.step for one in batch.stored] == [2] and batch.stored[0].fork is None


def test_without_shared_noise_there_is_no_fork() -> None:
    (drawn,) = roll(LinearPolicy(), plan([1, 2]))
    assert replay_batches([drawn]) == [drawn]


def test_groups_may_be_split_over_micro_batches_and_processes() -> None:
    """Three samples of a group: two of them in one process, and each in an update of its own."""
    policy = LinearPolicy(torch.float64)
    steps = plan([1, 2])
    (whole,) = roll(policy, steps, shared=True)
    _, wanted = gradient(policy, [whole])
    parts = [
        roller(policy, steps, indices=indices, micro=1, shared=True).draw(indices)
        for indices in ((0,), (1, 2, 3), (4, 5))
    ]
    how = Update(Trained(policy, sampler(policy), Grpo()))
    for part in parts:
        how.gradient([part], credits(), 12)
    for parameter, one in zip(policy.trainable_parameters(), wanted, strict=True):
        torch.testing.assert_close(parameter.grad, one)


def test_samples_keep_their_credit() -> None:
    """Rows, latents and log-probs of a part belong together, in whatever order they were drawn."""
    policy = LinearPolicy()
    source = roller(policy, plan([1]), tasks=3, group=2, micro=2, shared=True)
    drawn = [source.draw(indices) for indices in ((5, 0), (2,), (1, 4), (3,))]
    first, second = replay_batches(drawn)
    assert (first.indices, second.indices) == ((0, 2, 1, 3), (5, 4))  # tasks 0 and 1, then task 2
    by_index = {
        index: (one.stored[0].x[b], one.stored[0].following[b], one.stored[0].log_prob[b])
        for one in drawn
        for b, index in enumerate(one.indices)
    }
    for batch in (first, second):
        (step,) = batch.stored
        for b, index in enumerate(batch.indices):
            x, following, log_prob = by_index[index]
            assert torch.equal(step.x[step.task_index[b]], x)
            assert torch.equal(step.following[b], following)
            assert torch.equal(step.log_prob[b], log_prob)
