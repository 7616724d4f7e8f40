"""Every policy draws what its stock pipeline draws, whatever else is in the batch."""

from __future__ import annotations

import pytest
import torch
from policies import suite
from policies.families import Family
from policies.ledger import Ledger
from policies.suite import SEED, STEPS

from likewise.policies.common.encoded import EncodedTask
from likewise.rollout.trajectories import integrate


def test_the_ode_sampler_is_the_stock_pipeline(family: Family, ledger: Ledger) -> None:
    policy, apart = suite.plain(family), 0.0
    for which in ((0,), (0, 1))[: family.max_references]:
        task = suite.a_task(family, *which)
        noise, condition = policy.initial_noise([SEED]), policy.encode([task])
        ours = integrate(policy, suite.sampler(policy), noise, condition, range(STEPS))
        theirs = family.stock(policy, task, STEPS, SEED)
        assert ours.shape == theirs.shape == (1, *policy.latent_shape)
        assert suite.away(ours, noise) > 0.01  # a model that does nothing would compare nothing
        apart = max(apart, float((ours - theirs).abs().max()))
    assert apart <= family.stock_tolerance
    ledger.record(family.name, "ode", apart)


def test_a_replay_has_the_ratio_one(family: Family, ledger: Ledger) -> None:
    policy = suite.adapted(family.policy())
    tasks = suite.mixed_tasks(family)
    drawn = suite.rolled_out(policy, tasks)
    assert suite.replay(policy).ratio_deviation(drawn) == 0.0
    with torch.no_grad():  # and it is not constant
        for parameter in policy.trainable_parameters():
            parameter += 0.05
    assert suite.replay(policy).ratio_deviation(drawn) > 0.0
    ledger.record(family.name, "ratio", 0.0)


def test_a_mixed_batch_equals_one_by_one(family: Family, ledger: Ledger) -> None:
    policy, tasks = suite.plain(family), suite.mixed_tasks(family)
    noise = policy.initial_noise(range(len(tasks)))
    condition = policy.encode(tasks)
    with torch.no_grad():
        together = policy.velocity(noise, suite.SIGMA, condition)
        alone = torch.cat(
            [
                policy.velocity(noise[[index]], suite.SIGMA, policy.encode([task]))
                for index, task in enumerate(tasks)
            ]
        )
        other = policy.velocity(noise[[0]], suite.SIGMA, condition.select([1]))
    assert suite.away(together[[0]], other) > 1e-3  # tasks do matter
    apart = float((together - alone).abs().max() / alone.abs().max())
    assert apart <= 1e-5
    ledger.record(family.name, "mixed", apart)


def test_it_takes_as_many_references_as_it_says(family: Family, ledger: Ledger) -> None:
    policy, most = suite.plain(family), type(suite.plain(family)).max_references
    assert most >= family.max_references
    tasks = [suite.a_task(family, *[0] * count) for count in range(1, most + 1)]
    with torch.no_grad():
        condition = policy.encode(tasks)
        noise = policy.initial_noise([SEED]).expand(len(tasks), *policy.latent_shape)
        seen = policy.velocity(noise, suite.SIGMA, condition)
    assert [len(encoded.references) for encoded in condition.tasks] == list(range(1, most + 1))
    assert all(not torch.equal(seen[0], other) for other in seen[1:])
    with pytest.raises(ValueError, match=rf"'too many' has {most + 1} references; .* takes {most}"):
        policy.encode([suite.a_task(family, *[0] * (most + 1), id="too many")])
    ledger.record(family.name, "references", "one" if most == 1 else f"1 to {most}")


def test_planned_shapes_are_those_of_encoding(family: Family, ledger: Ledger) -> None:
    """All but the number of a prompt's tokens, where it is not padded to a fixed one."""
    policy = suite.plain(family)
    tasks = suite.mixed_tasks(family)
    for task, encoded in zip(tasks, policy.encode(tasks).tasks, strict=True):
        blank = policy.blank_task([(image.height, image.width) for image in task.references])
        assert _kinds(blank) == _kinds(encoded)
        assert [_shapes(one) for one in blank.references] == [
            _shapes(r) for r in encoded.references
        ]
        padded = not policy.text_sees_references
        for ours, real in ((blank.text, encoded.text), (blank.negative, encoded.negative)):
            if padded and real is not None:
                assert _shapes(ours) == _shapes(real)
    ledger.record(family.name, "blank", "✔")


def _kinds(encoded: EncodedTask) -> list[dict[str, object]]:
    """Names, dtypes and last dimensions of all that an encoded task holds."""
    parts = [
        encoded.text,
        *encoded.references,
        *([] if encoded.negative is None else [encoded.negative]),
    ]
    return [{name: (v.dtype, v.ndim, v.shape[-1]) for name, v in part.items()} for part in parts]


def _shapes(part: dict[str, torch.Tensor]) -> dict[str, torch.Size]:
    return {name: value.shape for name, value in part.items()}
