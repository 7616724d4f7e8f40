"""A LoRA survives a round trip in every bit, and stock diffusers reads it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from likewise.policies.common.lora import read_lora


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_lora_round_trip_is_exact(make_policy, train, velocity, dtype, tmp_path: Path) -> None:
    policy = make_policy(dtype)
    policy.add_lora(4, 10, "all")
    train(policy).save_adapter(tmp_path)
    newcomer, owner = make_policy(dtype), make_policy(dtype)
    owner.add_lora(4, 10, "all", seed=5)
    in_place = owner.trainable_parameters()
    for other in (newcomer, owner):
        other.load_adapter(tmp_path)
        pairs = zip(policy.trainable_parameters(), other.trainable_parameters(), strict=True)
        assert all(torch.equal(a, b) and b.dtype == torch.float32 for a, b in pairs)
        assert torch.equal(velocity(policy), velocity(other))
        assert all(p.requires_grad for p in other.trainable_parameters())
    # An optimiser that holds the parameters must go on training them.
    assert all(a is b for a, b in zip(in_place, owner.trainable_parameters(), strict=True))
    other.save_adapter(tmp_path / "again")
    files = [
        folder / "pytorch_lora_weights.safetensors" for folder in (tmp_path, tmp_path / "again")
    ]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_the_file_says_alpha_and_lists_targets_in_order(make_policy, tmp_path: Path) -> None:
    policy = make_policy()
    policy.add_lora(2, 6, ["to_v", "proj_mlp", "to_k", "to_out.0", "to_q"])
    policy.save_adapter(tmp_path)
    _, settings = read_lora(tmp_path, "transformer")
    assert (settings["r"], settings["lora_alpha"]) == (2, 6)
    assert settings["target_modules"] == ["proj_mlp", "to_k", "to_out.0", "to_q", "to_v"]


def test_a_file_that_does_not_say_alpha_needs_an_adapter(make_policy, tmp_path: Path) -> None:
    policy = make_policy()
    policy.add_lora(2, 6)
    policy.save_adapter(tmp_path)
    file = tmp_path / "pytorch_lora_weights.safetensors"
    save_file(load_file(file), file)
    with pytest.raises(ValueError, match="does not say its alpha"):
        make_policy().load_adapter(tmp_path)
    policy.load_adapter(tmp_path)


@pytest.mark.parametrize("targets", ["attention", "all"])
def test_stock_diffusers_loads_it_at_the_right_scale(
    make_policy, train, velocity, tmp_path: Path, targets
) -> None:
    policy = make_policy()
    policy.add_lora(4, 10, targets)
    train(policy).save_adapter(tmp_path)
    plain = make_policy()
    plain.pipeline.load_lora_weights(tmp_path)
    assert torch.equal(velocity(plain), velocity(policy))


def test_the_seed_makes_the_lora(make_policy) -> None:
    def first(seed: int) -> Tensor:
        policy = make_policy()
        torch.manual_seed(99)
        policy.add_lora(4, 8, seed=seed)
        assert torch.equal(
            torch.rand(1), torch.rand(1, generator=torch.Generator().manual_seed(99))
        )
        return policy.trainable_parameters()[0]

    assert torch.equal(first(1), first(1))
    assert not torch.equal(first(1), first(2))


@pytest.mark.parametrize(
    ("rank", "alpha", "targets", "message"),
    [
        (2, 8, "attention", "the first is"),
        (4, 4, "attention", "alpha 8, not 4"),
        (4, 8, "all", "entries differ"),
    ],
)
def test_another_adapter_is_refused(
    make_policy, tmp_path: Path, rank, alpha, targets, message
) -> None:
    policy = make_policy()
    policy.add_lora(4, 8)
    policy.save_adapter(tmp_path)
    other = make_policy()
    other.add_lora(rank, alpha, targets)
    with pytest.raises(ValueError, match=message):
        other.load_adapter(tmp_path)
