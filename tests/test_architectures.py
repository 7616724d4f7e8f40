"""Descriptions of published models, and the models without weights that are built from them."""

from __future__ import annotations

import json
import shutil
from functools import cache
from math import prod
from pathlib import Path

import pytest
import torch
from diffusers import FluxKontextPipeline, QwenImageTransformer2DModel
from safetensors.torch import save_file
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from transformers import AutoModel

from likewise import assets
from likewise.assets import architectures
from likewise.footprint.meta import add_ip_adapter, weightless_encoder, weightless_pipeline

DESCRIBED = Path(architectures.__file__).parent
GB, MB, BF16, FP16, FP32 = 10**9, 10**6, 2, 2, 4

# Parameters as published: a number where there is one, else the size of the weight file divided by
# the bytes per parameter. SOURCES.md says where each was read.
FLUX_1 = {
    "transformer": 23_802_816_640 / BF16,
    "text_encoder": 123 * MB,
    "text_encoder_2": 9_524_621_312 / BF16,
    "vae": 335 * MB / FP32,
}
KLEIN = {
    "transformer": 7.75 * GB / BF16,
    "text_encoder": 8.05 * GB / BF16,
    "vae": 168_534_016 / FP16,
}
PIPELINES = {
    "black-forest-labs/FLUX.1-dev": FLUX_1,
    "black-forest-labs/FLUX.1-Kontext-dev": FLUX_1,
    "black-forest-labs/FLUX.2-klein-4B": KLEIN,
    "black-forest-labs/FLUX.2-klein-base-4B": KLEIN,
    "stable-diffusion-v1-5/stable-diffusion-v1-5": {
        "unet": 860 * MB,
        "text_encoder": 123 * MB,
        "vae": 335 * MB / FP32,
    },
    "stabilityai/stable-diffusion-xl-base-1.0": {
        "unet": 5.14 * GB / FP16,
        "text_encoder": 123 * MB,
        "text_encoder_2": 695 * MB,
        "vae": 335 * MB / FP32,
    },
    "Qwen/Qwen-Image-Edit-2509": {
        "transformer": 20.4 * GB,
        "text_encoder": 16.6 * GB / BF16,
        "vae": 254 * MB / BF16,
    },
}
ENCODERS = {
    ("facebook/dinov2-base", ""): 346 * MB / FP32,
    ("facebook/dinov2-large", ""): 1.22 * GB / FP32,
    ("openai/clip-vit-large-patch14", ""): 1.71 * GB / FP32,
    ("openai/clip-vit-base-patch32", ""): 605 * MB / FP32,
    ("laion/CLIP-ViT-H-14-laion2B-s32B-b79K", ""): 3.94 * GB / FP32,
    ("yuvalkirstain/PickScore_v1", ""): 3.95 * GB / FP32,
    ("Qwen/Qwen2-VL-7B-Instruct", ""): 8.29 * GB,
    ("h94/IP-Adapter", "models/image_encoder"): 2_528_373_448 / FP32,
    ("h94/IP-Adapter", "sdxl_models/image_encoder"): 3.69 * GB / FP16,
}
IP_ADAPTERS = {
    "models/ip-adapter_sd15": 44.6 * MB / FP16,
    "models/ip-adapter-plus_sd15": 98_183_288 / FP16,
    "sdxl_models/ip-adapter_sdxl": 702_585_376 / FP16,
    "sdxl_models/ip-adapter_sdxl_vit-h": 698 * MB / FP16,
    "sdxl_models/ip-adapter-plus_sdxl_vit-h": 847_517_512 / FP16,
}
SD, XL = "stable-diffusion-v1-5/stable-diffusion-v1-5", "stabilityai/stable-diffusion-xl-base-1.0"

described = cache(weightless_pipeline)


def size(model: nn.Module) -> int:
    return sum(weights.numel() for weights in model.parameters())


def modules(pipeline) -> dict[str, nn.Module]:
    return {name: part for name, part in pipeline.components.items() if isinstance(part, nn.Module)}


def layout(model: nn.Module) -> dict[str, tuple]:
    return {name: (value.shape, value.dtype) for name, value in model.state_dict().items()}


@pytest.mark.parametrize("name", PIPELINES)
def test_described_pipelines_have_the_published_parameters(name: str) -> None:
    parts = modules(described(name))
    assert {part: size(model) for part, model in parts.items()} == pytest.approx(
        PIPELINES[name], rel=0.01
    )
    assert {weights.device.type for part in parts.values() for weights in part.parameters()} == {
        "meta"
    }


@pytest.mark.parametrize(("name", "subfolder"), ENCODERS)
def test_described_encoders_have_the_published_parameters(name: str, subfolder: str) -> None:
    assert size(weightless_encoder(name, subfolder)) == pytest.approx(
        ENCODERS[name, subfolder], rel=0.01
    )


@pytest.mark.parametrize("weights", IP_ADAPTERS)
def test_described_ip_adapters_have_the_published_parameters(weights: str) -> None:
    file = DESCRIBED / "h94/IP-Adapter" / f"{weights}.safetensors.json"
    parameters = sum(prod(shape) for shape in json.loads(file.read_text()).values())
    assert parameters == pytest.approx(IP_ADAPTERS[weights], rel=0.01)


@pytest.mark.parametrize(
    ("name", "weights"),
    [(SD, "models/ip-adapter-plus_sd15"), (XL, "sdxl_models/ip-adapter_sdxl_vit-h")],
)
def test_described_ip_adapters_fit_their_unet(name: str, weights: str) -> None:
    pipeline = weightless_pipeline(name, torch.float16)
    adapter = (f"{weights}.safetensors", "models/image_encoder")
    add_ip_adapter(pipeline, "h94/IP-Adapter", *adapter)
    added = size(pipeline.unet) - size(described(name).unet)
    assert added == pytest.approx(IP_ADAPTERS[weights], rel=0.01)
    assert pipeline.image_encoder.dtype is torch.float16
    assert {value.device.type for value in pipeline.unet.state_dict().values()} == {"meta"}


def test_an_ip_adapter_is_read_from_a_directory_too(tmp_path: Path) -> None:
    source, weights = DESCRIBED / "h94/IP-Adapter/models", "ip-adapter_sd15.safetensors"
    shapes = json.loads((source / f"{weights}.json").read_text())
    zeros = {key: torch.zeros(shape, dtype=torch.float16) for key, shape in shapes.items()}
    save_file(zeros, tmp_path / weights)
    shutil.copytree(source / "image_encoder", tmp_path / "image_encoder")
    ours, theirs = weightless_pipeline(SD), weightless_pipeline(SD)
    add_ip_adapter(ours, tmp_path, weights, "image_encoder")
    add_ip_adapter(theirs, "h94/IP-Adapter", f"models/{weights}", "models/image_encoder")
    assert layout(ours.unet) == layout(theirs.unet)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_weightless_pipeline_is_laid_out_like_the_loaded_one(dtype: torch.dtype) -> None:
    folder = assets.path("nano-kontext")
    loaded = FluxKontextPipeline.from_pretrained(folder, dtype=dtype)
    for source in ("nano-kontext", str(folder)):
        ours = weightless_pipeline(source, dtype)
        assert type(ours) is FluxKontextPipeline
        assert ours.scheduler.config == loaded.scheduler.config
        assert {name: layout(part) for name, part in modules(ours).items()} == {
            name: layout(part) for name, part in modules(loaded).items()
        }
        assert ours.tokenizer is None


@pytest.mark.parametrize("name", ["nano-dinov2", "nano-clip"])
def test_a_weightless_encoder_is_laid_out_like_the_loaded_one(name: str) -> None:
    assert layout(weightless_encoder(name)) == layout(AutoModel.from_pretrained(assets.path(name)))


@pytest.mark.parametrize("name", ["black-forest-labs/FLUX.2-klein-base-4B", SD])
def test_in_a_fake_mode_models_are_fake_and_schedules_real(name: str) -> None:
    with FakeTensorMode():
        pipeline = weightless_pipeline(name, torch.bfloat16)
        if name == SD:
            adapter = ("models/ip-adapter_sd15.safetensors", "models/image_encoder")
            add_ip_adapter(pipeline, "h94/IP-Adapter", *adapter)
    for part in modules(pipeline).values():
        for value in (*part.parameters(), *part.buffers()):
            assert isinstance(value, FakeTensor)
            assert value.device.type == "cpu"
    pipeline.scheduler.set_timesteps(4, **({} if name == SD else {"mu": 1.0}))
    assert not isinstance(pipeline.scheduler.timesteps, FakeTensor)
    if name != SD:  # the embedding is the last layer, too: it must be counted once
        assert size(pipeline.text_encoder) == size(described(name).text_encoder)


def test_encoders_that_initialise_from_values_can_be_fake() -> None:
    with FakeTensorMode():
        features = weightless_encoder("nano-dinov2")(torch.zeros(2, 3, 56, 56)).last_hidden_state
    assert isinstance(features, FakeTensor)
    assert features.shape[0] == 2


def test_a_fake_transformer_with_a_table_that_is_no_buffer_runs(tmp_path: Path) -> None:
    sizes = {"num_layers": 1, "attention_head_dim": 16, "num_attention_heads": 2}
    real = QwenImageTransformer2DModel(joint_attention_dim=8, axes_dims_rope=(4, 6, 6), **sizes)
    real.save_config(tmp_path / "transformer")
    part = ["diffusers", "QwenImageTransformer2DModel"]
    index = {"_class_name": "QwenImageEditPlusPipeline", "transformer": part}
    index |= dict.fromkeys(
        ("scheduler", "vae", "text_encoder", "tokenizer", "processor"), [None] * 2
    )
    (tmp_path / "model_index.json").write_text(json.dumps(index))

    def velocity(transformer: nn.Module) -> torch.Tensor:
        return transformer(
            hidden_states=torch.zeros(1, 4, 64),
            encoder_hidden_states=torch.zeros(1, 3, 8),
            encoder_hidden_states_mask=torch.ones(1, 3),
            timestep=torch.ones(1),
            img_shapes=[[(1, 2, 2)]],
            return_dict=False,
        )[0]

    with FakeTensorMode():
        fake = velocity(weightless_pipeline(tmp_path).transformer)
    assert isinstance(fake, FakeTensor)
    assert fake.shape == velocity(real).shape


def test_every_description_is_tested_sourced_and_bare() -> None:
    names = architectures.names()
    assert set(names) == set(PIPELINES) | {name for name, _ in ENCODERS}
    sources = (DESCRIBED / "SOURCES.md").read_text(encoding="utf-8")
    for name in names:
        assert f"`{name}`" in sources, f"SOURCES.md does not say where {name} was read"
        for file in (DESCRIBED / name).rglob("*"):
            assert file.is_dir() or file.suffix == ".json"
            assert "_name_or_path" not in ("" if file.is_dir() else file.read_text())


def test_a_directory_comes_before_a_description(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert architectures.folder(SD) == DESCRIBED / SD
    (tmp_path / SD).mkdir(parents=True)
    assert architectures.folder(SD) == Path(SD)


def test_an_unknown_name_lists_the_described_models() -> None:
    with pytest.raises(ValueError, match=r"'flux' is not a directory.*FLUX\.1-dev.*PickScore_v1"):
        weightless_pipeline("flux")


def test_an_incomplete_or_wrong_directory_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"has no model_index\.json"):
        weightless_pipeline(tmp_path)
    with pytest.raises(ValueError, match=r"has no model_index\.json"):
        weightless_pipeline("facebook/dinov2-base")
    with pytest.raises(ValueError, match=r"text has no config\.json"):
        weightless_encoder(tmp_path, "text")
    (tmp_path / "model_index.json").write_text('{"_class_name": "NoPipeline"}')
    with pytest.raises(ValueError, match=r"model_index\.json: diffusers has no class 'NoPipeline'"):
        weightless_pipeline(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ValueError, match=r"config\.json: transformers has no class None"):
        weightless_encoder(tmp_path)


def test_a_missing_or_unfit_ip_adapter_is_named(tmp_path: Path) -> None:
    pipeline = weightless_pipeline(SD)
    with pytest.raises(ValueError, match=r"has no models/missing\.safetensors"):
        add_ip_adapter(pipeline, "h94/IP-Adapter", "models/missing.safetensors", "")
    unfit = "sdxl_models/ip-adapter_sdxl.safetensors"
    with pytest.raises(ValueError, match=f"{unfit} of h94/IP-Adapter is not an IP-Adapter for"):
        add_ip_adapter(pipeline, "h94/IP-Adapter", unfit, "models/image_encoder")
    save_file({"lora.weight": torch.zeros(1)}, tmp_path / "other.safetensors")
    shutil.copytree(DESCRIBED / "h94/IP-Adapter/models/image_encoder", tmp_path / "encoder")
    with pytest.raises(ValueError, match=r"other\.safetensors of .* is not an IP-Adapter.*'lora'"):
        add_ip_adapter(pipeline, tmp_path, "other.safetensors", "encoder")
