"""A LoRA survives a round trip in every bit, and stock diffusers reads it."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch
from peft import LoraConfig
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from likewise.policies.common.lora import Lora
from likewise.policies.common.stored_lora import LORA_FILE, METADATA_KEY, read_lora


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


def test_the_strength_scales_what_a_lora_changes(make_policy, train, velocity) -> None:
    policy = make_policy(torch.float32)
    policy.add_lora(4, 10, "all")
    train(policy)
    trained = velocity(policy)
    with policy.adapter_disabled():
        untrained = velocity(policy)
    policy.set_strength(0)
    assert torch.equal(velocity(policy), untrained)
    policy.set_strength(1)
    assert torch.equal(velocity(policy), trained)
    policy.set_strength(0.5)
    half = velocity(policy)
    assert not torch.equal(half, trained) and not torch.equal(half, untrained)


def delta(folder: Path) -> dict[str, Tensor]:
    """What a stored LoRA adds to the weights of its modules: alpha / r · B A."""
    weights, settings = read_lora(folder, "transformer")
    scale = settings["lora_alpha"] / settings["r"]
    modules = {key.rpartition(".lora_")[0] for key in weights}
    return {
        name: scale * weights[f"{name}.lora_B.weight"] @ weights[f"{name}.lora_A.weight"]
        for name in modules
    }


@pytest.fixture
def two_loras(make_policy, train, tmp_path: Path) -> tuple[Path, Path]:
    """Two trained ones that differ in rank, scale and modules."""
    for name, rank, alpha, targets in (("a", 4, 10, "attention"), ("b", 2, 3, "all")):
        policy = make_policy()
        policy.add_lora(rank, alpha, targets, seed=rank)
        train(policy, 0.05 * rank).save_adapter(tmp_path / name)
    return tmp_path / "a", tmp_path / "b"


def test_interpolated_loras_end_at_the_single_ones(make_policy, velocity, two_loras) -> None:
    single = []
    for folder in two_loras:
        policy = make_policy()
        policy.load_adapter(folder)
        single.append(velocity(policy))
    both = make_policy()
    both.load_adapter(two_loras[0])
    before = torch.random.get_rng_state()
    both.add_second(two_loras[1])
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.equal(velocity(both), single[0])  # the second changes nothing yet
    for share in (0, 1, 0):
        both.set_strength(1 - share, share)
        assert torch.equal(velocity(both), single[share])
    with pytest.raises(ValueError, match="already exists"):
        both.add_second(two_loras[1])


@pytest.mark.parametrize("share", [0.5, 0.25])
def test_between_them_is_the_mean_of_deltas(make_policy, velocity, two_loras, share) -> None:
    first, second = (delta(folder) for folder in two_loras)
    assert first.keys() < second.keys()
    merged, plain = make_policy(), velocity(make_policy())
    with torch.no_grad():
        for part, folder_share in ((first, 1 - share), (second, share)):
            for name, change in part.items():
                merged.denoiser.get_submodule(name).weight += folder_share * change
    both = make_policy()
    both.load_adapter(two_loras[0])
    both.add_second(two_loras[1])
    both.set_strength(1 - share, share)
    found, wanted = velocity(both), velocity(merged)
    # Both are float32 sums in another order.
    assert (found - wanted).abs().max() < 1e-4 * (wanted - plain).abs().max()


def test_only_plain_loras_are_interpolated(make_policy, two_loras, tmp_path: Path) -> None:
    full = make_policy()
    full.train_all()
    with pytest.raises(ValueError, match="only LoRAs"):
        full.add_second(two_loras[0])
    full.save_adapter(tmp_path / "full")
    policy = make_policy()
    policy.load_adapter(two_loras[0])
    with pytest.raises(ValueError, match="only LoRAs"):
        policy.add_second(tmp_path / "full")


def test_all_weights_have_no_strength(make_policy) -> None:
    policy = make_policy(torch.float32)
    policy.train_all()
    policy.set_strength(1)
    with pytest.raises(ValueError, match="only a LoRA"):
        policy.set_strength(0.5)


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


@pytest.fixture
def stored(make_policy, train, tmp_path: Path) -> Path:
    """A trained LoRA of rank 2 and scale 6 / 2 in a folder of its own."""
    policy = make_policy()
    policy.add_lora(2, 6)
    train(policy).save_adapter(tmp_path)
    return tmp_path


def rewrite(folder: Path, weights=None, **settings) -> None:
    """Change the LoRA in `folder`: its weights by name, its settings by name."""
    file = folder / LORA_FILE
    with safe_open(file, "pt") as before:
        header = json.loads(before.metadata()[METADATA_KEY])
    header |= {f"transformer.{key}": value for key, value in settings.items()}
    content = {**load_file(file), **(weights or {})}
    save_file(content, file, metadata={METADATA_KEY: json.dumps(header)})


def test_empty_settings_of_a_newer_peft_are_left_out(make_policy, velocity, stored) -> None:
    before = make_policy()
    before.load_adapter(stored)
    rewrite(stored, some_future_option=None, another=False, a_pattern={}, rank_pattern=None)
    after = make_policy()
    after.load_adapter(stored)
    assert torch.equal(velocity(before), velocity(after))


def test_a_used_setting_of_a_newer_peft_is_refused_by_name(make_policy, stored) -> None:
    rewrite(stored, some_future_option="on")
    with pytest.raises(ValueError, match=r"some_future_option='on'.*upgrade peft"):
        make_policy().load_adapter(stored)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"r": 10**9}, "r=1000000000 in its header is not a LoRA's rank"),
        ({"r": "2"}, "r='2' in its header is not a LoRA's rank"),
        ({"r": 4}, r"says r=4 of \S+, but its weights have rank 2"),
        ({"r": None}, "r=None in its header is not a LoRA's rank"),
        ({"bias": "all"}, "bias='all', which adapters of likewise cannot have"),
        ({"use_rslora": "yes"}, "use_rslora='yes' is neither true nor false"),
        ({"rank_pattern": {"to_k": 8192}}, r"says r=8192 of \S+to_k, but its weights have rank 2"),
        ({"rank_pattern": {"to_k": 10**9}}, "rank_pattern is not a table from modules to numbers"),
        ({"rank_pattern": {"to_k": "2"}}, "rank_pattern is not a table from modules to numbers"),
        ({"rank_pattern": ["to_k"]}, "rank_pattern is not a table from modules to numbers"),
        ({"alpha_pattern": {"to_k": 0}}, "alpha_pattern is not a table from modules to numbers"),
        ({"modules_to_save": ["x"]}, r"modules_to_save=\['x'\], which adapters of likewise cannot"),
        (
            {"layer_replication": [[0, 9]]},
            "layer_replication=.*, which adapters of likewise cannot",
        ),
        ({"init_lora_weights": "pissa"}, "'pissa', which changes the base model: convert it"),
        ({"init_lora_weights": [1]}, r"init_lora_weights=\[1\], which changes the base model"),
        ({"lora_alpha": "a"}, "lora_alpha='a' is not a scale"),
        ({"lora_alpha": float("inf")}, "is not a scale"),
        ({"use_dora": True}, "entries differ|has settings"),
    ],
)
def test_settings_that_make_no_sense_are_refused(make_policy, stored, settings, message) -> None:
    rewrite(stored, **settings)
    with pytest.raises(ValueError, match=message):
        make_policy().load_adapter(stored)


ENDLESS = "(([a-z_0-9.])+.)+[A-Z]([a-z_0-9.])+$"  # takes time that doubles with every letter


@pytest.mark.parametrize("key", ["target_modules", "exclude_modules", "layers_pattern"])
def test_no_regular_expression_for_modules_is_evaluated(make_policy, velocity, stored, key) -> None:
    before = make_policy()
    before.load_adapter(stored)
    rewrite(stored, **{key: ENDLESS})
    after = make_policy()
    after.load_adapter(stored)
    assert torch.equal(velocity(before), velocity(after))


@pytest.mark.parametrize("table", ["rank_pattern", "alpha_pattern"])
@pytest.mark.parametrize("pattern", [ENDLESS, "(a|a)*b", r"to_k|to_q", r".*\.to_k", ""])
def test_no_regular_expression_in_a_table_is_evaluated(make_policy, stored, table, pattern) -> None:
    rewrite(stored, **{table: {pattern: 2}})
    with pytest.raises(ValueError, match=f"{table} is not a table from modules to numbers"):
        make_policy().load_adapter(stored)


@pytest.mark.parametrize("names", ["whole", "ends", "anchored"])
def test_modules_may_have_ranks_and_scales_of_their_own(
    make_policy, train, velocity, tmp_path: Path, names
) -> None:
    """As PEFT's tables say by plain names, in any of the forms in which they are written."""
    module = "transformer_blocks.0.attn.to_q"
    written = {"whole": module, "ends": "to_q", "anchored": f"^{module}$"}[names]
    config = LoraConfig(
        r=2,
        lora_alpha=6,
        target_modules=["to_q", "to_k"],
        rank_pattern={written: 4},
        alpha_pattern={written: 20, "to_k": 3},
    )
    policy = make_policy()
    policy.adapter = Lora(policy.denoiser, "transformer", config)
    train(policy).save_adapter(tmp_path)
    ranks = {len(one) for key, one in load_file(tmp_path / LORA_FILE).items() if "lora_A" in key}
    assert ranks == {2, 4}
    newcomer, plain = make_policy(), make_policy()
    newcomer.load_adapter(tmp_path)
    assert torch.equal(velocity(policy), velocity(newcomer))
    plain.pipeline.load_lora_weights(tmp_path)
    assert torch.equal(velocity(policy), velocity(plain))
    scaling = newcomer.denoiser.get_submodule(module).scaling["default"]
    assert scaling == 20 / 4


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("text_encoder.layers.0.q_proj.lora_A.weight", "also has weights of a text encoder"),
        ("unet.mid_block.attn.to_q.lora_A.weight", "is a LoRA for a unet"),
        ("lora_unet_mid_block_attn_to_q.lora_down.weight", "is in kohya's format"),
        ("diffusion_model.blocks.0.lora_A.weight", "is in ComfyUI's format"),
        ("base_model.model.blocks.0.lora_A.weight", "is in PEFT's own format"),
    ],
)
def test_weights_of_other_parts_or_formats_are_named(make_policy, stored, key, message) -> None:
    rewrite(stored, {key: torch.ones(2, 2)})
    with pytest.raises(ValueError, match=message):
        make_policy().load_adapter(stored)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(make_policy, stored, value) -> None:
    weights = load_file(stored / LORA_FILE)
    name = sorted(weights)[0]
    rewrite(stored, {name: torch.full_like(weights[name], value)})
    owner = make_policy()
    owner.add_lora(2, 6)
    for policy in (make_policy(), owner):
        with pytest.raises(ValueError, match=f"not finite .* in {name.partition('.')[2]}"):
            policy.load_adapter(stored)


def test_full_weights_that_are_not_finite_are_refused(make_policy, tmp_path: Path) -> None:
    policy = make_policy()
    policy.train_all()
    with torch.no_grad():
        policy.trainable_parameters()[0].fill_(float("nan"))
    policy.save_adapter(tmp_path)
    with pytest.raises(ValueError, match="not finite"):
        make_policy().load_adapter(tmp_path)


@pytest.mark.parametrize("full", [False, True])
def test_files_have_the_permissions_of_the_umask(make_policy, full, tmp_path: Path) -> None:
    policy = make_policy()
    policy.train_all() if full else policy.add_lora(2, 6)
    before = os.umask(0o027)
    try:
        policy.save_adapter(tmp_path)
    finally:
        os.umask(before)
    files = [file for file in tmp_path.rglob("*") if file.is_file()]
    assert files and {file.stat().st_mode & 0o777 for file in files} == {0o640}
