"""Every policy learns with its adapter alone, goes on as if it never stopped, in any precision."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from policies import suite
from policies.families import Family
from policies.ledger import Ledger
from torch import Tensor

from likewise.policies.common.pipeline_policy import PipelinePolicy
from likewise.trainer.state import read_state, write_state

# How far a 16-bit velocity may be from float32's, relative to it; measured: docs/models.md.
FAR = {"bfloat16": 0.1, "float16": 0.02}


def test_a_grpo_step_changes_only_the_adapter(family: Family, ledger: Ledger) -> None:
    policy = suite.adapted(family.policy())
    assert suite.check_step(policy, suite.mixed_tasks(family)) == 0.0
    ledger.record(family.name, "step", "✔")


def test_an_nft_step_changes_only_the_adapter(family: Family, ledger: Ledger) -> None:
    """Of guided models, with guidance: the velocity that is trained is the guided one."""
    policy = suite.adapted(family.policy())
    assert suite.check_step(policy, suite.mixed_tasks(family), suite.nft_step) > 0
    ledger.record(family.name, "nft", "✔")


def test_a_resumed_run_is_one_that_never_stopped(
    family: Family, ledger: Ledger, tmp_path: Path
) -> None:
    tasks = suite.mixed_tasks(family)[:2]

    def fresh() -> tuple[PipelinePolicy, suite.Learner]:
        policy = family.policy()
        policy.add_lora(suite.RANK, suite.ALPHA, "all", seed=1)
        return policy, suite.learner(policy)

    policy, own = fresh()
    suite.grpo_step(policy, own, tasks, seed=1)
    write_state(tmp_path, policy, own)
    suite.grpo_step(policy, own, tasks, seed=2)

    resumed, its = fresh()
    read_state(tmp_path, resumed, its)
    before = [p.detach().clone() for p in resumed.trainable_parameters()]
    suite.grpo_step(resumed, its, tasks, seed=2)
    ends = [p.detach() for p in resumed.trainable_parameters()]
    assert not _equal(before, ends)
    assert _equal(ends, [p.detach() for p in policy.trainable_parameters()])
    assert own.state()[1] == its.state()[1]
    with own.averaged(), its.averaged():
        assert _equal(resumed.trainable_parameters(), policy.trainable_parameters())
    ledger.record(family.name, "resume", 0.0)


@pytest.mark.parametrize("name", FAR)
def test_half_precision(family: Family, ledger: Ledger, name: str) -> None:
    """Of the frozen weights and the forward; the adapter stays float32, ratios exactly 1."""
    dtype = getattr(torch, name)
    policy, tasks = family.policy(dtype), suite.mixed_tasks(family)
    assert policy.dtype == dtype
    with torch.no_grad():
        found = suite.velocity(policy, tasks)
        apart = suite.away(found, suite.velocity(suite.plain(family), tasks))
    assert found.dtype == torch.float32 and found.isfinite().all()
    assert 0 < apart < FAR[name]
    suite.adapted(policy)
    assert all(p.dtype == torch.float32 for p in policy.trainable_parameters())
    assert suite.check_step(policy, tasks[:2]) == 0.0
    ledger.record(family.name, name, apart)


def test_gradient_checkpointing_gives_the_same_gradient(family: Family, ledger: Ledger) -> None:
    tasks = suite.mixed_tasks(family)[:2]

    def gradients(checkpointing: bool) -> tuple[list[Tensor], int]:
        """And how often a layer computed."""
        policy = suite.adapted(family.policy(gradient_checkpointing=checkpointing))
        calls = 0

        def count(*_: object) -> None:
            nonlocal calls
            calls += 1

        name = next(n for n, _ in policy.denoiser.named_modules() if n.endswith("to_q"))
        policy.denoiser.get_submodule(name).register_forward_hook(count)
        loss = suite.velocity(policy, tasks).square().mean()
        parameters = policy.trainable_parameters()
        found = torch.autograd.grad(loss, parameters, allow_unused=True, materialize_grads=True)
        return list(found), calls

    wanted, once = gradients(checkpointing=False)
    found, twice = gradients(checkpointing=True)
    assert twice == 2 * once
    scale = max(float(one.abs().max()) for one in wanted)
    apart = max(float((a - b).abs().max()) for a, b in zip(wanted, found, strict=True)) / scale
    assert apart <= 1e-5
    ledger.record(family.name, "checkpointing", apart)


def _equal(some: list[Tensor], others: list[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(some, others, strict=True))
