"""Training touches the trainable part only, and the frozen reference stays at hand."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from likewise.policies.common import execution


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("targets", ["attention", "all", ["to_v", "proj_mlp"]])
def test_a_fresh_lora_changes_nothing(make_policy, velocity, dtype, targets) -> None:
    policy = make_policy(dtype)
    base = velocity(policy).detach()
    policy.add_lora(4, 8, targets)
    with policy.adapter_disabled():
        assert torch.equal(velocity(policy), velocity(policy))
        reference = velocity(policy)
    assert torch.equal(velocity(policy), reference)
    if dtype == torch.float32:
        assert torch.equal(reference, base)
    assert all(p.dtype == torch.float32 for p in policy.trainable_parameters())


def test_presets_adapt_the_blocks_and_nothing_else(make_policy) -> None:
    def adapted(targets: str) -> set[str]:
        policy = make_policy()
        policy.add_lora(2, 2, targets)
        names = (name for name, p in policy.denoiser.named_parameters() if p.requires_grad)
        return {name.split(".lora_")[0] for name in names}

    attention, everything = adapted("attention"), adapted("all")
    assert len(attention) == 8 + 2 * 3
    assert len(everything - attention) == 4 + 2 * 2
    assert all("transformer_blocks." in name for name in everything)


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_step_changes_only_the_adapter(
    make_policy, train, velocity, dtype, checkpointing
) -> None:
    policy = make_policy(dtype, gradient_checkpointing=checkpointing)
    policy.add_lora(4, 8, "all")
    ours = {id(p) for p in policy.trainable_parameters()}
    parts = (policy.denoiser, policy.pipeline.vae, policy.pipeline.text_encoder_2)
    frozen = [p for part in parts for p in part.parameters() if id(p) not in ours]
    before = [p.detach().clone() for p in (*frozen, *policy.trainable_parameters())]
    start = velocity(policy).detach()
    train(policy)
    after = [*frozen, *policy.trainable_parameters()]
    same = [torch.equal(a, b) for a, b in zip(before, after, strict=True)]
    # The last single block's and text stream's dead ends may have no gradient; most must have.
    assert all(same[: len(frozen)])
    assert sum(same[len(frozen) :]) < len(ours) / 4
    assert not torch.equal(velocity(policy), start)
    with policy.adapter_disabled(), policy.adapter_disabled():
        assert torch.equal(velocity(policy), start)
    assert not torch.equal(velocity(policy), start)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_waits_on_the_cpu_gives_the_same_gradient(
    make_policy, velocity, dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The inputs of blocks are what waits, not what is in them."""
    moved: list[int] = []
    pack = execution.KeptOnCpu._pack
    monkeypatch.setattr(
        execution.KeptOnCpu, "_pack", lambda _, one: moved.append(one.nbytes) or pack(one)
    )

    def gradients(**how: bool) -> list[Tensor]:
        policy = make_policy(dtype, **how)
        policy.train_all(keep_reference=False)
        loss = velocity(policy).square().sum()
        return list(torch.autograd.grad(loss, policy.trainable_parameters(), allow_unused=True))

    wanted = gradients(gradient_checkpointing=True)
    assert not moved
    found = gradients(gradient_checkpointing=True, offload_activations=True)
    for one, other in zip(wanted, found, strict=True):
        assert one is other is None or torch.equal(one, other)
    kept = sum(moved)
    gradients(offload_activations=True)
    assert 0 < 3 * kept < sum(moved) - kept


@pytest.mark.parametrize("kind", ["lora", "full"])
def test_a_look_at_the_reference_leaves_the_gradient_alone(
    make_policy, train, velocity, kind
) -> None:
    policy = make_policy()
    policy.add_lora(4, 8) if kind == "lora" else policy.train_all()
    train(policy, lr=1e-4)

    def gradients(look: bool) -> list[Tensor]:
        loss = velocity(policy).square().sum()
        if look:
            with policy.adapter_disabled(), torch.no_grad():
                assert float(velocity(policy).square().sum()) != float(loss)
        return list(torch.autograd.grad(loss, policy.trainable_parameters()))

    pairs = zip(gradients(look=False), gradients(look=True), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    assert all(p.requires_grad for p in policy.trainable_parameters())


def test_the_reference_is_left_even_after_an_error(make_policy, train, velocity) -> None:
    policy = make_policy()
    policy.add_lora(4, 8)
    train(policy)
    expected = velocity(policy)
    with pytest.raises(KeyError), policy.adapter_disabled():
        raise KeyError
    assert torch.equal(velocity(policy), expected)


def test_full_fine_tuning_round_trip_and_reference(
    make_policy, train, velocity, tmp_path: Path
) -> None:
    policy = make_policy()
    start = velocity(policy).detach()
    policy.train_all()
    assert len(policy.trainable_parameters()) == len(list(policy.denoiser.parameters()))
    train(policy, lr=1e-4)
    end = velocity(policy).detach()
    with policy.adapter_disabled():
        assert torch.equal(velocity(policy), start)
    assert torch.equal(velocity(policy), end)
    assert not torch.equal(start, end)
    policy.save_adapter(tmp_path)
    other = make_policy()
    other.load_adapter(tmp_path)
    assert torch.equal(velocity(other), end)
    with other.adapter_disabled():
        assert torch.equal(velocity(other), start)


def test_full_fine_tuning_of_a_bfloat16_base_trains_float32(make_policy, train, velocity) -> None:
    policy = make_policy(torch.bfloat16)
    policy.train_all(keep_reference=False)
    assert policy.dtype == torch.bfloat16
    before = [p.detach().clone() for p in policy.trainable_parameters()]
    train(policy, lr=1e-6)  # far below a bfloat16 rounding
    pairs = zip(before, policy.trainable_parameters(), strict=True)
    assert sum(not torch.equal(a, b) for a, b in pairs) > len(before) / 2
    with pytest.raises(RuntimeError, match="keep_reference"), policy.adapter_disabled():
        pass


def test_misuse_is_refused(make_policy, tmp_path: Path) -> None:
    policy = make_policy()
    assert policy.trainable_parameters() == []
    with pytest.raises(ValueError, match="nothing to save"):
        policy.save_adapter(tmp_path)
    with pytest.raises(ValueError, match="has no pytorch_lora_weights"):
        policy.load_adapter(tmp_path)
    with pytest.raises(ValueError, match="no LoRA preset 'attn'"):
        policy.add_lora(4, 8, "attn")
    with pytest.raises(ValueError, match="must be positive"):
        policy.add_lora(0, 8)
    with pytest.raises(ValueError, match="not found"):
        make_policy().add_lora(4, 8, ["no_such_layer"])
    policy.add_lora(4, 8)
    with pytest.raises(ValueError, match="already trains its Lora"):
        policy.train_all()
