"""LoRAs in other programs' layouts: exact by closed forms, and as diffusers' own readers see them.

The denoisers are tiny and of the real classes, each in a pipeline that has no other parts.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import (
    DDIMScheduler,
    Flux2KleinPipeline,
    Flux2Transformer2DModel,
    FluxKontextPipeline,
    FluxPipeline,
    FluxTransformer2DModel,
    QwenImageEditPlusPipeline,
    QwenImageTransformer2DModel,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from likewise.policies.common.pipeline_policy import PipelinePolicy
from likewise.policies.common.stored_lora import LORA_FILE, METADATA_KEY
from likewise.policies.flux2_klein import Flux2KleinPolicy
from likewise.policies.flux_kontext import FluxKontextPolicy
from likewise.policies.formats import flux, qwen, unet
from likewise.policies.formats.exporting import export_adapter
from likewise.policies.formats.headers import Facts
from likewise.policies.formats.layouts import Counterpart, Layout, by_module, convert, restore
from likewise.policies.formats.lora_files import FORMATS
from likewise.policies.formats.starting import start_from
from likewise.policies.qwen_image_edit import QwenImageEditPolicy
from likewise.policies.sd_ip_adapter import SdIpAdapterPolicy

RANK, ALPHA = 4, 10.0
FACTS = Facts("vivid", "flux-kontext", "FLUX.1-Kontext-dev", "iteration-000012", 512, 768)


def flux_pipeline() -> Any:
    transformer = FluxTransformer2DModel(
        in_channels=16,
        num_layers=1,
        num_single_layers=2,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=16,
        pooled_projection_dim=16,
        axes_dims_rope=(4, 6, 6),
    )
    names = ("scheduler", "vae", "text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2")
    return FluxKontextPipeline(**dict.fromkeys(names), transformer=transformer)


def flux2_pipeline() -> Any:
    transformer = Flux2Transformer2DModel(
        in_channels=16,
        num_layers=1,
        num_single_layers=2,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=16,
        axes_dims_rope=(4, 4, 4, 4),
        guidance_embeds=False,
    )
    parts = dict.fromkeys(("scheduler", "vae", "text_encoder", "tokenizer"))
    return Flux2KleinPipeline(**parts, transformer=transformer)


def qwen_pipeline() -> Any:
    transformer = QwenImageTransformer2DModel(
        in_channels=16,
        out_channels=4,
        num_layers=2,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=16,
        axes_dims_rope=(4, 6, 6),
    )
    parts = dict.fromkeys(("scheduler", "vae", "text_encoder", "tokenizer", "processor"))
    return QwenImageEditPlusPipeline(**parts, transformer=transformer)


def tiny_unet(**settings: Any) -> UNet2DConditionModel:
    return UNet2DConditionModel(
        block_out_channels=(8, 16),
        norm_num_groups=4,
        attention_head_dim=2,
        **settings,
    )


def sd_pipeline() -> Any:
    denoiser = tiny_unet(
        layers_per_block=1,
        cross_attention_dim=16,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
    )
    names = ("vae", "text_encoder", "tokenizer", "safety_checker", "feature_extractor")
    return StableDiffusionPipeline(
        **dict.fromkeys(names),
        unet=denoiser,
        scheduler=DDIMScheduler(),
        requires_safety_checker=False,
    )


def sdxl_pipeline() -> Any:
    denoiser = tiny_unet(
        layers_per_block=2,
        cross_attention_dim=16,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=6 * 8 + 16,
    )
    names = ("vae", "text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2")
    return StableDiffusionXLPipeline(
        **dict.fromkeys(names), unet=denoiser, scheduler=DDIMScheduler()
    )


def flux_inputs() -> dict[str, Tensor]:
    return {
        "hidden_states": torch.randn(1, 6, 16),
        "timestep": torch.tensor([0.6]),
        "pooled_projections": torch.randn(1, 16),
        "encoder_hidden_states": torch.randn(1, 5, 16),
        "txt_ids": torch.zeros(5, 3),
        "img_ids": torch.rand(6, 3),
    }


def flux2_inputs() -> dict[str, Tensor]:
    return {
        "hidden_states": torch.randn(1, 6, 16),
        "timestep": torch.tensor([0.6]),
        "encoder_hidden_states": torch.randn(1, 5, 16),
        "txt_ids": torch.zeros(1, 5, 4),
        "img_ids": torch.rand(1, 6, 4),
    }


def qwen_inputs() -> dict[str, Any]:
    return {
        "hidden_states": torch.randn(1, 6, 16),
        "timestep": torch.tensor([0.6]),
        "encoder_hidden_states": torch.randn(1, 5, 16),
        "encoder_hidden_states_mask": torch.ones(1, 5),
        "img_shapes": [[(1, 2, 3)]],
    }


def sd_inputs() -> dict[str, Any]:
    return {
        "sample": torch.randn(1, 4, 8, 8),
        "timestep": torch.tensor([600]),
        "encoder_hidden_states": torch.randn(1, 5, 16),
        "added_cond_kwargs": {"text_embeds": torch.randn(1, 16), "time_ids": torch.ones(1, 6)},
    }


@dataclass(frozen=True)
class Case:
    """A family: the policy whose presets and layout it has, and a forward of its denoiser."""

    policy: type[PipelinePolicy]
    pipeline: Callable[[], Any]
    inputs: Callable[[], Mapping[str, Any]]


CASES = {
    "flux": Case(FluxKontextPolicy, flux_pipeline, flux_inputs),
    "flux2": Case(Flux2KleinPolicy, flux2_pipeline, flux2_inputs),
    "qwen": Case(QwenImageEditPolicy, qwen_pipeline, qwen_inputs),
    "sd": Case(SdIpAdapterPolicy, sd_pipeline, sd_inputs),
    "sdxl": Case(SdIpAdapterPolicy, sdxl_pipeline, sd_inputs),
}


def untuned(case: Case) -> PipelinePolicy:
    """A policy without a task's side: denoiser, presets, layout and adapters only."""
    torch.manual_seed(0)
    pipeline = case.pipeline()
    denoiser = getattr(pipeline, case.policy.denoiser_name)
    with torch.no_grad():
        for weights in denoiser.parameters():  # some layers start at 0, and would hide others
            if not weights.any():
                weights.normal_(std=0.3)
    only = type(case.policy.__name__, (case.policy,), {"__init__": PipelinePolicy.__init__})
    return only(pipeline)


def tuned(case: Case, folder: Path, preset: Any = "all") -> PipelinePolicy:
    """With a LoRA that is not 0, which `folder` holds too."""
    policy = untuned(case)
    policy.add_lora(RANK, ALPHA, preset)
    with torch.no_grad():
        for weights in policy.trainable_parameters():
            weights.normal_(std=0.2)
    policy.save_adapter(folder)
    return policy


def forward(policy: PipelinePolicy, case: Case) -> Tensor:
    torch.manual_seed(1)
    with torch.no_grad():
        return policy.denoiser(**case.inputs(), return_dict=False)[0]


def export(policy: PipelinePolicy, case: Case, folder: Path, file_format: str, out: Path) -> Any:
    return export_adapter(policy, folder, file_format, out, FACTS, lambda: forward(policy, case))


def again(policy: PipelinePolicy) -> None:
    """Make a policy that was exported as it was before."""
    policy.denoiser.set_adapter("default")
    policy.denoiser.delete_adapters("read-back")


def header(file: Path) -> dict[str, str]:
    with safe_open(file, framework="pt") as stored:
        return stored.metadata()


@pytest.mark.parametrize("preset", ["attention", "all"])
@pytest.mark.parametrize("name", CASES)
def test_a_plain_pipeline_draws_the_same_with_the_file(
    name: str, preset: str, tmp_path: Path
) -> None:
    case = CASES[name]
    policy, plain = tuned(case, tmp_path / "lora", preset), untuned(case)
    wanted = forward(policy, case)
    scale = wanted.abs().max()
    assert (forward(plain, case) - wanted).abs().max() > 1e-2 * scale  # the adapter matters
    for file_format in FORMATS:
        out = tmp_path / f"{file_format}.safetensors"
        found = export(policy, case, tmp_path / "lora", file_format, out)
        again(policy)
        assert max(found.weights, found.velocity) <= 1e-6 < found.tolerance == 1e-5
        # diffusers splits FLUX.1's linear1 at the width of the real model: see the test below.
        assert (found.reader == "diffusers") == ((name, file_format) != ("flux", "kohya"))
        if found.reader == "diffusers":
            plain.pipeline.load_lora_weights(out)
            assert (forward(plain, case) - wanted).abs().max() <= 1e-5 * scale
            plain.pipeline.unload_lora_weights()
    written = [f"{file_format}.safetensors" for file_format in FORMATS]
    assert sorted(file.name for file in tmp_path.iterdir()) == sorted([*written, "lora"])


def test_fused_modules_are_exact() -> None:
    """By hand: q and v of a fused module of width 2, whose k has no LoRA."""
    down = {"q": torch.tensor([[1.0, 2.0]]), "v": torch.tensor([[5.0, 7.0]])}
    up = {"q": torch.tensor([[1.0], [3.0]]), "v": torch.tensor([[-1.0], [2.0]])}
    weights = {}
    for part in "vq":  # the order in the file does not matter
        weights[f"attn.{part}.lora_A.weight"] = down[part]
        weights[f"attn.{part}.lora_B.weight"] = up[part]
    layout = Layout("x_", lambda name: Counterpart("qkv", "qkv".index(name[-1]), (1, 1, 1)))
    file = convert(weights, 3.0, layout)
    assert file["x_qkv.lora_down.weight"].tolist() == [[1, 2], [5, 7]]
    assert file["x_qkv.lora_up.weight"].tolist() == [
        *([1, 0], [3, 0]),
        *([0, 0], [0, 0]),
        *([0, -1], [0, 2]),
    ]
    assert file["x_qkv.alpha"] == 6 and file["x_qkv.alpha"].shape == ()  # 6 / 2 = 3 / 1
    back = restore(file, ["attn.q", "attn.v"], layout)
    for part in "qv":
        product = back[f"attn.{part}.lora_B.weight"] @ back[f"attn.{part}.lora_A.weight"]
        assert torch.equal(product, 3 * up[part] @ down[part])


def effects(weights: Mapping[str, Tensor], scale: float) -> Iterator[tuple[str, Tensor]]:
    """Module → scale·up·down·x, for a fixed x; what matters of a LoRA."""
    for module, (down, up) in by_module(weights).items():
        x = torch.linspace(-1, 1, down.shape[1])
        yield module, scale * (up @ (down @ x))


@pytest.mark.parametrize("single", [("attn.to_q", "attn.to_v"), ("attn.to_q", "proj_mlp"), None])
def test_diffusers_converter_reads_kohyas_flux_at_real_width(single: Any) -> None:
    double = {name: 3072 for name in flux.DOUBLE if not name.startswith("norm")}
    widths = {"transformer_blocks.18." + name: width for name, width in double.items()}
    for name in single or (name for name in flux.SINGLE if name != "norm.linear"):
        widths["single_transformer_blocks.37." + name] = 3072
    generator, weights = torch.Generator().manual_seed(0), {}
    for module, width in widths.items():
        wide_in = module.endswith("net.2") * 3 * width or module.endswith("proj_out") * 4 * width
        wide_out = 3 * width if module.endswith(("0.proj", "proj_mlp")) else 0
        shapes = {"A": (RANK, width + wide_in), "B": (width + wide_out, RANK)}
        for half, shape in shapes.items():
            weights[f"{module}.lora_{half}.weight"] = torch.randn(shape, generator=generator)
    layout = flux.family({"num_attention_heads": 24, "attention_head_dim": 128}).kohya
    assert layout.stock
    read = FluxPipeline.lora_state_dict(convert(weights, ALPHA, layout))
    read = {key.removeprefix("transformer."): tensor for key, tensor in read.items()}
    found, wanted = dict(effects(read, 1)), dict(effects(weights, ALPHA / RANK))
    for module, effect in found.items():  # it also makes LoRAs of 0 for parts that have none
        expected = wanted.pop(module, torch.zeros_like(effect))
        assert (effect - expected).norm() <= 1e-5 * expected.norm(), module
    assert not wanted


def test_kohyas_names_are_those_of_its_own_code() -> None:
    """Names that sd-scripts and musubi-tuner give modules of the published models."""
    assert flux.kohya(
        "transformer_blocks.7.attn.add_v_proj", flux.DOUBLE, flux.SINGLE
    ) == Counterpart("double_blocks_7_txt_attn_qkv", 2, (1, 1, 1))
    assert qwen.kohya("transformer_blocks.3.img_mlp.net.0.proj").name == (
        "transformer_blocks_3_img_mlp_net_0_proj"
    )
    for module, name in (
        ("down_blocks.1.attentions.0.proj_in", "input_blocks_4_1_proj_in"),
        ("down_blocks.2.attentions.1.proj_out", "input_blocks_8_1_proj_out"),
        ("down_blocks.0.resnets.1.conv1", "input_blocks_2_0_in_layers_2"),
        ("mid_block.resnets.1.time_emb_proj", "middle_block_2_emb_layers_1"),
        ("up_blocks.0.attentions.2.proj_in", "output_blocks_2_1_proj_in"),
        ("up_blocks.2.resnets.0.conv_shortcut", "output_blocks_6_0_skip_connection"),
        (
            "mid_block.attentions.0.transformer_blocks.9.attn2.to_out.0",
            "middle_block_1_transformer_blocks_9_attn2_to_out_0",
        ),
    ):
        assert unet.sdxl(module, 2) == Counterpart(name)


def test_comfyui_and_kohya_files_have_an_alpha_for_each_module(tmp_path: Path) -> None:
    case = CASES["flux"]
    policy = tuned(case, tmp_path / "lora")
    for file_format, down, expected in (
        (
            "comfyui",
            "lora_A",
            {
                "transformer.transformer_blocks.0.attn.to_q": 1,
                "transformer.single_transformer_blocks.1.proj_mlp": 1,
            },
        ),
        (
            "kohya",
            "lora_down",
            {
                "lora_unet_double_blocks_0_img_attn_qkv": 3,
                "lora_unet_single_blocks_1_linear1": 4,
                "lora_unet_single_blocks_1_linear2": 1,
            },
        ),
    ):
        out = tmp_path / f"{file_format}.safetensors"
        export(policy, case, tmp_path / "lora", file_format, out)
        again(policy)
        tensors = load_file(out)
        assert sum(key.endswith(".alpha") for key in tensors) == len(tensors) / 3
        for module, parts in expected.items():
            assert tensors[f"{module}.alpha"] == parts * ALPHA
            assert len(tensors[f"{module}.{down}.weight"]) == parts * RANK


def test_headers_say_what_is_known_in_a_fixed_order(tmp_path: Path) -> None:
    case, names = CASES["flux"], ("one.safetensors", "two.safetensors")
    policy = tuned(case, tmp_path / "lora")
    for file_format in FORMATS:
        for name in names:
            export(policy, case, tmp_path / "lora", file_format, tmp_path / name)
            again(policy)
        one, two = (tmp_path / name for name in names)
        assert one.read_bytes() == two.read_bytes()
        found = header(one)
        about = json.loads(found["likewise"])
        assert about["recipe"] == "vivid" and about["checkpoint"] == "iteration-000012"
        assert ("lora_adapter_metadata" in found) == (file_format == "diffusers")
        if file_format != "diffusers":
            assert found["ss_network_dim"] == "4" and found["ss_network_alpha"] == "10.0"
            assert found["ss_base_model_version"] == "flux1"
            assert found["modelspec.resolution"] == "768x512"
        assert str(tmp_path) not in str(found)


def test_a_file_that_reads_back_differently_is_not_left_behind(tmp_path: Path) -> None:
    case, out = CASES["flux"], tmp_path / "out.safetensors"
    tuned(case, tmp_path / "lora")
    other = untuned(case)
    other.add_lora(RANK, 2 * ALPHA, "all")  # its B is 0, so weights differ from all of the file's
    out.write_bytes(b"earlier")
    for file_format in FORMATS:
        with pytest.raises(ValueError, match=r"was not written: .* weights differ by inf, the vel"):
            export(other, case, tmp_path / "lora", file_format, out)
        again(other)
    assert out.read_bytes() == b"earlier"
    assert sorted(file.name for file in tmp_path.iterdir()) == ["lora", "out.safetensors"]


def test_a_wrong_scale_shows_where_velocities_hardly_change(tmp_path: Path) -> None:
    case = CASES["flux"]
    policy = tuned(case, tmp_path / "lora")
    with torch.no_grad():
        for weights in policy.trainable_parameters():
            weights.mul_(1e-5)
    policy.save_adapter(tmp_path / "lora")
    file = tmp_path / "lora" / "pytorch_lora_weights.safetensors"
    file.write_bytes(file.read_bytes().replace(b'_alpha\\": 10.0', b'_alpha\\": 4.00'))
    tiny_change = r"(0\.0e\+00|\d\.\de-(0[6-9]|1\d))"
    with pytest.raises(ValueError, match=f"differ by 6.0e-01, the velocity by {tiny_change} "):
        export(policy, case, tmp_path / "lora", "comfyui", tmp_path / "out.safetensors")


def test_modules_without_a_name_are_refused_by_name(tmp_path: Path) -> None:
    for name, module in (
        ("flux", "x_embedder"),
        ("flux2", "context_embedder"),
        ("qwen", "img_in"),
        ("sdxl", "down_blocks.0.downsamplers.0.conv"),
    ):
        case, folder = CASES[name], tmp_path / name
        policy = tuned(case, folder, [module])
        with pytest.raises(ValueError, match=f"kohya's layout has no name for {module}"):
            export(policy, case, folder, "kohya", tmp_path / "out.safetensors")
    plain = tuned(Case(PipelinePolicy, flux_pipeline, flux_inputs), tmp_path / "plain", ["to_q"])
    with pytest.raises(ValueError, match=r"has the lora_layout None.*use --format diffusers"):
        export(plain, CASES["flux"], tmp_path / "plain", "comfyui", tmp_path / "out.safetensors")
    assert not (tmp_path / "out.safetensors").exists()


def test_keys_that_are_no_loras_are_named() -> None:
    half = {"a.b.lora_A.weight": torch.zeros(1, 1)}
    with pytest.raises(ValueError, match=r"a\.b has lora_A only"):
        by_module(half)
    with pytest.raises(ValueError, match=r"a\.b\.lora_magnitude_vector is not a LoRA's"):
        by_module({**half, "a.b.lora_magnitude_vector": torch.zeros(1)})


def test_full_weights_are_a_folder_that_diffusers_loads(tmp_path: Path) -> None:
    case = CASES["flux"]
    policy, out = untuned(case), tmp_path / "transformer"
    policy.train_all()
    with torch.no_grad():
        for weights in policy.trainable_parameters():
            weights.mul_(1.01)
    wanted = forward(policy, case)
    with pytest.raises(ValueError, match="full weights, and kohya files hold LoRAs"):
        export(policy, case, tmp_path, "kohya", out)
    assert export(policy, case, tmp_path, "diffusers", out).weights == 0
    plain = untuned(case)
    plain.denoiser = FluxTransformer2DModel.from_pretrained(out)
    assert (forward(plain, case) - wanted).abs().max() <= 1e-5 * wanted.abs().max()


# ── beginning with a file ──


def files_of(policy: PipelinePolicy, case: Case, folder: Path) -> dict[str, Path]:
    """The adapter in `folder` in every format that a run can begin with."""
    weights = load_file(folder / LORA_FILE)
    name = policy.denoiser_name
    peft = {f"base_model.model.{key.removeprefix(f'{name}.')}": one for key, one in weights.items()}
    (folder.parent / "peft").mkdir()
    save_file(peft, folder.parent / "peft" / "adapter_model.safetensors")
    settings = json.dumps({"r": RANK, "lora_alpha": ALPHA, "peft_type": "LORA"})
    (folder.parent / "peft" / "adapter_config.json").write_text(settings)
    found = {"own": folder, "own file": folder / LORA_FILE, "peft": folder.parent / "peft"}
    found["peft file"] = found["peft"] / "adapter_model.safetensors"
    for file_format in FORMATS:
        found[file_format] = folder.parent / f"{file_format}.safetensors"
        export(policy, case, folder, file_format, found[file_format])
        again(policy)
    return found


@pytest.mark.parametrize("name", CASES)
def test_a_run_can_begin_with_a_file_of_every_format(name: str, tmp_path: Path) -> None:
    """At the same rank and scale, at others, and where more modules are trained."""
    case = CASES[name]
    policy = tuned(case, tmp_path / "lora", "attention")
    wanted = forward(policy, case)
    for file_format, file in files_of(policy, case, tmp_path / "lora").items():
        for rank, alpha, preset in ((RANK, ALPHA, "attention"), (RANK + 3, 2.0, "all")):
            other = untuned(case)
            other.add_lora(rank, alpha, preset, seed=5)
            start_from(other, file, keep_reference=False)
            away = (forward(other, case) - wanted).abs().max() / wanted.abs().max()
            assert away < 1e-5, (file_format, rank)
            with other.adapter_disabled():
                assert (forward(other, case) - wanted).abs().max() > 1e-3 * wanted.abs().max()
            assert all(one.dtype == torch.float32 for one in other.trainable_parameters())
            B = [p for key, p in other.denoiser.named_parameters() if ".lora_B." in key]
            assert any(one.abs().max() > 0 for one in B)


def test_what_is_read_at_the_same_shape_is_bit_identical(tmp_path: Path) -> None:
    case = CASES["flux"]
    policy = tuned(case, tmp_path / "lora", "attention")
    for file in files_of(policy, case, tmp_path / "lora").values():
        other = untuned(case)
        other.add_lora(RANK, ALPHA, "attention", seed=5)
        start_from(other, file, keep_reference=False)
        pairs = zip(policy.trainable_parameters(), other.trainable_parameters(), strict=True)
        assert all(torch.equal(a, b) for a, b in pairs), file


def test_the_reference_can_be_what_a_run_began_with(tmp_path: Path) -> None:
    case = CASES["qwen"]
    policy = tuned(case, tmp_path / "lora", "attention")
    wanted, other = forward(policy, case), untuned(case)
    other.add_lora(RANK, ALPHA, "attention", seed=5)
    start_from(other, tmp_path / "lora", keep_reference=True)
    with torch.no_grad():
        for weights in other.trainable_parameters():
            weights.add_(0.1)
    trained = forward(other, case)
    assert not torch.equal(trained, wanted)
    with other.adapter_disabled():
        assert torch.equal(forward(other, case), wanted)
    assert torch.equal(forward(other, case), trained)
    other.load_adapter(tmp_path / "lora")  # as a resumed run does: the reference stays
    with other.adapter_disabled():
        assert torch.equal(forward(other, case), wanted)


def spoil(weights: dict[str, Tensor], how: str) -> dict[str, Tensor]:
    first = next(key for key in weights if ".lora_A." in key)
    if how == "rank":
        return {k: torch.cat([v, v], 0 if "lora_A" in k else 1) for k, v in weights.items()}
    if how == "half":
        return {key: one for key, one in weights.items() if key != first}
    if how == "width":
        return weights | {first: weights[first][:, :-1].contiguous()}
    if how == "nan":
        return weights | {first: weights[first] * torch.nan}
    if how == "foreign":
        return {"diffusion_model.double_blocks.0.x.lora_A.weight": torch.ones(4, 4),
                "diffusion_model.double_blocks.0.x.lora_B.weight": torch.ones(4, 4)}  # fmt: skip
    if how == "no lora":
        return {"transformer.proj_out.weight": torch.ones(2, 2)}
    assert how == "only text"
    return {"text_encoder.x.lora_A.weight": torch.ones(2, 2)}


@pytest.mark.filterwarnings("ignore:.*text encoders are left out")
@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("rank", "has rank 8 in .*: set adapter.rank to 8 or more"),
        ("half", "lacks one half"),
        ("width", "is for another model"),
        ("nan", "not finite"),
        ("foreign", "double_blocks.0.x, which adapter.targets does not name"),
        ("no lora", "proj_out.weight is not a LoRA's"),
        ("only text", "holds no LoRA of a module"),
    ],
)
def test_files_that_no_run_can_begin_with_say_why(how: str, message: str, tmp_path: Path) -> None:
    case = CASES["flux"]
    policy = tuned(case, tmp_path / "lora", "attention")
    file = tmp_path / "spoilt.safetensors"
    save_file(spoil(load_file(tmp_path / "lora" / LORA_FILE), how), file)
    other = untuned(case)
    other.add_lora(RANK, ALPHA, "attention")
    before = [one.detach().clone() for one in other.trainable_parameters()]
    with pytest.raises(ValueError, match=message):
        start_from(other, file, keep_reference=False)
    assert all(map(torch.equal, before, other.trainable_parameters()))
    for start, word in ((tmp_path / "nowhere", "there is no"), (tmp_path, "name the file itself")):
        with pytest.raises(ValueError, match=word):
            start_from(other, start, keep_reference=False)
    for header in ("[1]", "{"):
        save_file({"x": torch.ones(1)}, file, metadata={METADATA_KEY: header})
        with pytest.raises(ValueError, match=r"not a JSON object|is damaged"):
            start_from(other, file, keep_reference=False)
    file.write_bytes(b"no safetensors")
    with pytest.raises(ValueError, match="damaged"):
        start_from(other, file, keep_reference=False)
    assert policy.adapter is not None


def test_text_encoders_in_a_file_are_left_out_with_a_word(tmp_path: Path) -> None:
    case = CASES["sd"]
    policy = tuned(case, tmp_path / "lora", "attention")
    files = files_of(policy, case, tmp_path / "lora")
    tensors = load_file(files["kohya"]) | {"lora_te_x.lora_down.weight": torch.ones(2, 2)}
    save_file(tensors, tmp_path / "more.safetensors")
    other = untuned(case)
    other.add_lora(RANK, ALPHA, "attention")
    with pytest.warns(UserWarning, match="1 weights of text encoders are left out"):
        start_from(other, tmp_path / "more.safetensors", keep_reference=False)
    torch.testing.assert_close(forward(other, case), forward(policy, case))
