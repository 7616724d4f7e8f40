"""UNO's LoRA, in the layout it is published in: all of it is used, merged and kept are the same."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from diffusers import FluxTransformer2DModel
from policies.families.flux_uno import pipeline, policy, tiny_uno, uno_weights
from safetensors.torch import load_file, save_file
from tiny import a_task
from torch import Tensor

from likewise.policies.common.stored_lora import LORA_FILE
from likewise.policies.flux.uno_lora import Update, blank_updates, convert
from likewise.policies.flux_uno import FluxUnoPolicy


@pytest.fixture
def file(tmp_path: Path) -> Path:
    save_file(tiny_uno(), tmp_path / "dit_lora.safetensors")
    return tmp_path / "dit_lora.safetensors"


def drawn(ours: FluxUnoPolicy) -> Tensor:
    return ours.velocity(ours.initial_noise([1]), 0.6, ours.encode([a_task()]))


def trained(ours: FluxUnoPolicy) -> FluxUnoPolicy:
    """Two large steps of a LoRA on every block."""
    ours.add_lora(4, 8, "all")
    optimiser = torch.optim.SGD(ours.trainable_parameters(), lr=0.01)
    for _ in range(2):
        optimiser.zero_grad()
        drawn(ours).square().sum().backward()
        optimiser.step()
    return ours


def test_every_key_of_the_published_lora_is_converted() -> None:
    with torch.device("meta"):
        flux = FluxTransformer2DModel(guidance_embeds=True)  # the defaults are FLUX.1-dev's
    published = uno_weights(19, 38, 3072, 4 * 3072, rank=512, device="meta")
    assert len(published) == 19 * 4 * 2 + 38 * 2 * 2
    updates = convert(published, flux)
    assert len(updates) == 19 * 8 + 38 * 4
    for module, update in updates.items():
        weight = flux.get_submodule(module).weight
        assert weight.shape == (update.up.shape[0], update.down.shape[1])
        assert update.up.shape[1] == update.down.shape[0] == 512
    attention = {  # of all blocks; and what acts on [attention | MLP]
        name
        for name, _ in flux.named_modules()
        if name.endswith((".to_q", ".to_k", ".to_v", ".to_out.0", "_proj", ".to_add_out"))
        and ".attn." in name
    } | {f"single_transformer_blocks.{block}.proj_out" for block in range(38)}
    assert updates.keys() == attention
    used = sum(update.up.numel() for update in updates.values())
    assert used == sum(value.numel() for key, value in published.items() if ".up." in key)
    assert {id(update.down) for update in updates.values()} == {
        id(value) for key, value in published.items() if ".down." in key
    }
    with torch.device("meta"):
        planned = blank_updates(flux)
    assert shapes(planned) == shapes(updates)
    assert len({id(update.down) for update in planned.values()}) == 19 * 4 + 38 * 2


def shapes(updates: Mapping[str, Update]) -> dict[str, tuple[torch.Size, torch.Size]]:
    return {name: (update.down.shape, update.up.shape) for name, update in updates.items()}


@torch.no_grad()
def test_q_k_and_v_get_their_thirds_in_order() -> None:
    weights = tiny_uno()
    updates = convert(weights, pipeline().transformer)
    fused = torch.cat(
        [
            updates[f"single_transformer_blocks.1.attn.to_{part}"].up
            @ updates[f"single_transformer_blocks.1.attn.to_{part}"].down
            for part in "qkv"
        ]
    )
    layer = "single_blocks.1.processor.qkv_lora"
    assert torch.equal(fused, weights[f"{layer}.up.weight"] @ weights[f"{layer}.down.weight"])
    text = updates["transformer_blocks.0.attn.to_add_out"]  # stream 2
    assert torch.equal(text.up, weights["double_blocks.0.processor.proj_lora2.up.weight"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"double_blocks.0.processor.proj_lora2.up.weight": None},
            r"lacks double_blocks\.0.*_lora2",
        ),
        (
            {"double_blocks.0.img_mod.lin.weight": (2, 2)},
            r"no place for, double_blocks\.0\.img_mod",
        ),
        ({"single_blocks.2.processor.qkv_lora.up.weight": (96, 3)}, r"no place.*single_blocks\.2"),
        (
            {"single_blocks.1.processor.proj_lora.down.weight": (3, 32)},
            r"single_blocks\.1\.processor\.proj_lora\.down\.weight of shape \[3, 32\].*\[3, 160\]",
        ),
        (
            {"single_blocks.0.processor.qkv_lora.up.weight": (96, 4)},
            r"qkv_lora\.up\.weight of shape \[96, 4\], but this transformer needs \[96, 3\]",
        ),
    ],
)
def test_a_lora_that_does_not_fit_is_refused(change, message) -> None:
    weights: dict[str, Tensor] = tiny_uno()
    for key, shape in change.items():
        if shape is None:
            del weights[key]
        else:
            weights[key] = torch.zeros(shape)
    with pytest.raises(ValueError, match=message):
        convert(weights, pipeline().transformer)


def test_a_missing_or_damaged_file_is_named(tmp_path) -> None:
    with pytest.raises(ValueError, match=r"uno_lora: there is no file no/such/dit_lora\.safetens"):
        policy(uno_lora="no/such/dit_lora.safetensors")
    with pytest.raises(ValueError, match=r"uno_lora: there is no file dit_lora"):
        policy(uno_lora="dit_lora.safetensors")
    (tmp_path / "half.safetensors").write_bytes(b"12345678901234")
    with pytest.raises(ValueError, match=r"uno_lora: .*half\.safetensors is damaged"):
        policy(uno_lora=tmp_path / "half.safetensors")


@torch.no_grad()
def test_merged_equals_kept(file) -> None:
    merged, kept = (policy(uno_lora=file, merge_uno=one) for one in (True, False))
    plain = drawn(policy())
    assert (drawn(merged) - drawn(kept)).abs().max() < 1e-5
    assert (drawn(merged) - plain).abs().max() > 0.05
    assert merged.denoiser.state_dict().keys() == kept.denoiser.state_dict().keys()
    half = policy(torch.bfloat16, uno_lora=file, merge_uno=False)
    assert (drawn(half) - drawn(kept)).norm() / drawn(kept).norm() < 0.1


@pytest.mark.parametrize("merge", [True, False])
def test_uno_belongs_to_the_frozen_reference_and_is_not_saved(file, merge, tmp_path) -> None:
    ours = policy(uno_lora=file, merge_uno=merge)
    reference = drawn(ours).detach()
    trained(ours)
    end = drawn(ours).detach()
    assert (end - reference).abs().max() > 1e-3
    with ours.adapter_disabled(), torch.no_grad():
        assert torch.equal(drawn(ours), reference)
    assert torch.equal(drawn(ours), end)
    ours.save_adapter(tmp_path)
    saved = load_file(tmp_path / LORA_FILE)
    assert len(saved) == len(ours.trainable_parameters()) == 2 * (12 + 2 * 5)
    assert not any("uno" in key for key in saved)
    other = policy(uno_lora=file, merge_uno=merge)
    other.load_adapter(tmp_path)
    assert torch.equal(drawn(other), end)


def test_a_kept_lora_lets_gradients_through_and_has_none(file) -> None:
    kept = policy(uno_lora=file, merge_uno=False, gradient_checkpointing=True)
    kept.add_lora(4, 8, "uno")
    drawn(kept).square().sum().backward()
    for layer in ("transformer_blocks.0.attn.to_add_out", "single_transformer_blocks.0.proj_out"):
        inside = kept.denoiser.get_submodule(layer)
        assert inside.lora_B["default"].weight.grad.abs().sum() > 0
        assert not inside.base_layer.uno_up.requires_grad


def test_the_uno_preset_adapts_what_uno_adapts(file) -> None:
    ours = policy()
    ours.add_lora(2, 2, "uno")
    names = {
        name.split(".lora_")[0] for name, p in ours.denoiser.named_parameters() if p.requires_grad
    }
    assert names == convert(tiny_uno(), pipeline().transformer).keys()


def test_a_quantised_weight_is_not_merged_into(file) -> None:
    class Int8Linear(torch.nn.Linear):
        """As bitsandbytes' and torchao's: a linear layer of another kind."""

    parts = pipeline()
    old = parts.transformer.single_transformer_blocks[1].proj_out
    parts.transformer.single_transformer_blocks[1].proj_out = Int8Linear(
        old.in_features, old.out_features
    )
    with pytest.raises(ValueError, match=r"single_transformer_blocks\.1\.proj_out.*merge_uno"):
        FluxUnoPolicy(parts, 16, 24, 8, uno_lora=file)


@torch.no_grad()
def test_beside_quantised_weights_it_is_kept(file) -> None:
    quantization = pytest.importorskip("torchao.quantization")
    parts = pipeline()
    for blocks in (
        parts.transformer.transformer_blocks,
        parts.transformer.single_transformer_blocks,
    ):
        quantization.quantize_(blocks, quantization.Int8WeightOnlyConfig())
    kept = FluxUnoPolicy(parts, 16, 24, 8, reference_size=24, uno_lora=file, merge_uno=False)
    exact = drawn(policy(uno_lora=file))
    assert 0 < (drawn(kept) - exact).norm() / exact.norm() < 0.01  # without UNO it is 0.1
    with pytest.raises(ValueError, match=r"transformer_blocks\.0\.attn\.to_q.*quantised"):
        FluxUnoPolicy(parts, 16, 24, 8, uno_lora=file)
