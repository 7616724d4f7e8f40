"""SD 1.5 with a plain IP-Adapter and SDXL with a "plus" one, tiny: UNets of two levels."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import tiny
import torch
from diffusers import (
    AutoencoderKL,
    EulerDiscreteScheduler,
    PNDMScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from policies.families import Family
from safetensors.torch import save_file
from torch import Tensor
from transformers import (
    CLIPTextConfig,
    CLIPTextModelWithProjection,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
)

from likewise.policies.sd.ip_adapter import install
from likewise.policies.sd_ip_adapter import SdIpAdapterPolicy
from likewise.types import Task

HEIGHT, WIDTH = 16, 24  # pixels: latents of 8×12
PUBLISHED = {  # scheduler settings of both models
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "clip_sample": False,
    "set_alpha_to_one": False,
    "skip_prk_steps": True,
    "steps_offset": 1,
    "timestep_spacing": "leading",
}
WEIGHTS = "models/ip-adapter.safetensors"
HEAD = 64  # channels; a "plus" adapter's files fix it


def tiny_unet(**config: Any) -> UNet2DConditionModel:
    return UNet2DConditionModel(
        block_out_channels=(16, 32),
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        attention_head_dim=2,
        norm_num_groups=4,
        **config,
    )


def tiny_vae() -> AutoencoderKL:
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(8, 8),
        latent_channels=4,
        norm_num_groups=4,
    )


def sd15_pipeline() -> StableDiffusionPipeline:
    torch.manual_seed(0)
    text = tiny.tiny_text_parts()
    return StableDiffusionPipeline(
        vae=tiny_vae(),
        text_encoder=text["text_encoder"],
        tokenizer=text["tokenizer"],
        unet=tiny_unet(cross_attention_dim=tiny.WIDTH),
        scheduler=PNDMScheduler.from_config(PUBLISHED),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def sdxl_pipeline() -> StableDiffusionXLPipeline:
    torch.manual_seed(0)
    text = tiny.tiny_text_parts()
    config = CLIPTextConfig(**{**text["text_encoder"].config.to_dict(), "num_hidden_layers": 2})
    return StableDiffusionXLPipeline(
        vae=tiny_vae(),
        text_encoder=text["text_encoder"],
        text_encoder_2=CLIPTextModelWithProjection(config),
        tokenizer=text["tokenizer"],
        tokenizer_2=text["tokenizer"],
        unet=tiny_unet(
            cross_attention_dim=2 * tiny.WIDTH,
            use_linear_projection=True,
            transformer_layers_per_block=(2, 1),
            addition_embed_type="text_time",
            addition_time_embed_dim=8,
            projection_class_embeddings_input_dim=6 * 8 + tiny.WIDTH,
        ),
        scheduler=EulerDiscreteScheduler.from_config(PUBLISHED),
        add_watermarker=False,
    )


def image_encoder() -> CLIPVisionModelWithProjection:
    torch.manual_seed(1)
    return CLIPVisionModelWithProjection(
        CLIPVisionConfig(
            hidden_size=tiny.WIDTH,
            intermediate_size=tiny.WIDTH,
            projection_dim=8,
            num_hidden_layers=2,
            num_attention_heads=2,
            image_size=16,
            patch_size=8,
            initializer_range=0.5,
        )
    )


def published_shapes(unet: UNet2DConditionModel, plus: bool) -> dict[str, tuple[int, ...]]:
    """Keys and shapes of an IP-Adapter's file, for an encoder like :func:`image_encoder`."""
    cross, width = unet.config.cross_attention_dim, tiny.WIDTH
    layers = [name for name in unet.attn_processors if "attn2" in name]
    shapes = {
        f"ip_adapter.{2 * number + 1}.{part}_ip.weight": (
            unet.get_submodule(name.removesuffix(".processor")).to_k.out_features,
            cross,
        )
        for number, name in enumerate(layers)
        for part in ("to_k", "to_v")
    }
    if not plus:
        sizes = {"proj.weight": (4 * cross, 8), "proj.bias": (4 * cross,)}
        sizes |= {"norm.weight": (cross,), "norm.bias": (cross,)}
        return shapes | {f"image_proj.{key}": size for key, size in sizes.items()}
    sizes = {"latents": (1, 3, width)}  # three tokens per image
    sizes |= {"proj_in.weight": (width, width), "proj_in.bias": (width,)}
    sizes |= {"proj_out.weight": (cross, width), "proj_out.bias": (cross,)}
    sizes |= {"norm_out.weight": (cross,), "norm_out.bias": (cross,)}
    for layer in range(4):
        for norm in ("0.norm1", "0.norm2", "1.0"):
            sizes |= {f"layers.{layer}.{norm}.{part}": (width,) for part in ("weight", "bias")}
        sizes |= {
            f"layers.{layer}.0.to_q.weight": (HEAD, width),
            f"layers.{layer}.0.to_kv.weight": (2 * HEAD, width),
            f"layers.{layer}.0.to_out.weight": (width, HEAD),
            f"layers.{layer}.1.1.weight": (4 * width, width),
            f"layers.{layer}.1.3.weight": (width, 4 * width),
        }
    return shapes | {f"image_proj.{key}": size for key, size in sizes.items()}


def published_weights(unet: UNet2DConditionModel, plus: bool) -> dict[str, Tensor]:
    """An IP-Adapter as its file holds it, strong enough to matter."""
    generator = torch.Generator().manual_seed(2)
    shapes = published_shapes(unet, plus)
    return {key: torch.randn(size, generator=generator) * 0.5 for key, size in shapes.items()}


def add_ip_adapter(pipeline: Any, plus: bool) -> Any:
    pipeline.register_modules(image_encoder=image_encoder())
    parts: dict[str, dict[str, Tensor]] = {"image_proj": {}, "ip_adapter": {}}
    for key, value in published_weights(pipeline.unet, plus).items():
        part, name = key.split(".", 1)
        parts[part][name] = value
    install(pipeline, parts, "tiny")
    return pipeline


def make_policy(
    bare: Callable[[], Any], plus: bool, dtype: torch.dtype = torch.float32, **options: Any
) -> SdIpAdapterPolicy:
    pipeline = add_ip_adapter(bare(), plus).to(dtype)
    pipeline.set_progress_bar_config(disable=True)
    return SdIpAdapterPolicy(pipeline, HEIGHT, WIDTH, **options)


def call(policy: SdIpAdapterPolicy, task: Task, steps: int, seed: int, output_type: str) -> Tensor:
    """The pipeline's ``__call__``, with DDIM and η = 0."""
    return policy.pipeline(
        prompt=task.prompt,
        negative_prompt=policy.guidance.negative_prompt or None,
        ip_adapter_image=[list(task.references)],
        height=HEIGHT,
        width=WIDTH,
        num_inference_steps=steps,
        guidance_scale=policy.guidance.scale,
        generator=torch.Generator().manual_seed(seed),
        output_type=output_type,
    ).images


stock = partial(call, output_type="latent")  # [1, 4, 8, 12]


def save(bare: Callable[[], Any], plus: bool, folder: Path) -> list[str]:
    pipeline = bare()
    pipeline.save_pretrained(folder / "pipeline")
    adapter = folder / "ip-adapter"
    image_encoder().save_pretrained(adapter / "models" / "image_encoder")
    weights = published_weights(pipeline.unet, plus)
    save_file(weights, adapter / WEIGHTS)
    return [
        f"policy.model={folder / 'pipeline'}",
        f"policy.ip_adapter={adapter}",
        f"policy.ip_adapter_weights={WEIGHTS}",
        f"policy.height={HEIGHT}",
        f"policy.width={WIDTH}",
    ]


def family(name: str, bare: Callable[[], Any], plus: bool) -> Family:
    return Family(
        name=name,
        kind="sd-ip-adapter",
        recipe="sd15-ip-adapter",
        pipeline=bare,
        policy=partial(make_policy, bare, plus),
        stock=stock,
        save=partial(save, bare, plus),
        max_references=2,
    )


FAMILIES = [
    family("SD 1.5 with IP-Adapter", sd15_pipeline, plus=False),
    family("SDXL with IP-Adapter Plus", sdxl_pipeline, plus=True),
]
