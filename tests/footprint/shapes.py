"""Four generators that differ in shape, small enough to train for an iteration and to measure it.

96 to 384 channels, 24 to 768 tokens of an image, transformers of one and two streams, and a UNet.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from families import flux2_klein, flux_kontext, qwen_image_edit, sd_ip_adapter
from PIL.Image import Image

from likewise.config import Recipe, load_recipe
from likewise.types import Task

PLAIN = [  # nothing of a shipped recipe that would cost time, or memory that nobody plans
    "data={kind: stickers}",
    "~rewards.prompt",
    "~rewards.identity",
    "rewards={light: {kind: function, target: 'shapes:light', side: prompt}}",
    "credit={shaping: {kind: none}, time_weights: {kind: constant}}",
    "policy.dtype=float32",
    "policy.gradient_checkpointing=false",
    "policy.offload=false",
    "policy.cache=null",
    "policy.quantization=null",
    "run={iterations: 2, device: cpu, processes: 1, threads: 1, evaluation: {every: 0}}",
    "run.trackers=[]",
    "adapter={kind: lora, rank: 16, alpha: 16, targets: attention}",
    "rollout.tasks=1",
    "rollout.group_size=2",
    "rollout.num_steps=2",
    "rollout.deterministic_tail=1",
    "rollout.trained={kind: all}",
    "rollout.micro_batch=2",
    "optimizer={updates_per_iteration: 1, split: tasks}",
]


def light(images: Sequence[Image], tasks: Sequence[Task]) -> list[float]:
    """A reward without a model."""
    return [float(np.asarray(image).mean()) for image in images]


def grown(pipeline: Any, name: str, **config: Any) -> Any:
    """The pipeline with a larger denoiser of the same class."""
    small = getattr(pipeline, name)
    pipeline.register_modules(**{name: type(small)(**{**small.config, **config})})
    return pipeline


def _save(pipeline: Any, folder: Path, height: int, width: int) -> list[str]:
    pipeline.save_pretrained(folder)
    return [f"policy.model={folder}", f"policy.height={height}", f"policy.width={width}"]


def wide_flux(folder: Path) -> list[str]:
    """FLUX: 352 of 384 tokens are images."""
    pipeline = grown(
        flux_kontext.tiny.tiny_pipeline(guidance_embeds=True),
        "transformer",
        num_attention_heads=16,
        num_layers=1,
        num_single_layers=3,
    )
    return [*_save(pipeline, folder, 32, 48), "policy.max_sequence_length=32"]


def deep_klein(folder: Path) -> list[str]:
    """FLUX.2: few tokens, most of them text, wide blocks, and two forwards for the guidance."""
    pipeline = grown(
        flux2_klein.tiny_pipeline(),
        "transformer",
        num_attention_heads=24,
        num_layers=2,
        num_single_layers=4,
    )
    return [*_save(pipeline, folder, 64, 96), "policy.max_sequence_length=64"]


def qwen(folder: Path) -> list[str]:
    """Qwen-Image-Edit: two streams in every block, and guidance that rescales norms."""
    pipeline = grown(
        qwen_image_edit.tiny_pipeline(), "transformer", num_attention_heads=20, num_layers=3
    )
    areas = ["policy.reference_area=4096", "policy.condition_area=2048"]
    return [*_save(pipeline, folder, 96, 64), *areas]


def unet(folder: Path) -> list[str]:
    """Stable Diffusion: convolutions, few channels where there are many pixels."""

    def bare() -> Any:
        size = {"block_out_channels": (96, 192), "norm_num_groups": 32, "attention_head_dim": 8}
        return grown(sd_ip_adapter.sd15_pipeline(), "unet", **size)

    paths = sd_ip_adapter.save(bare, False, folder)
    return [*paths, "policy.height=48", "policy.width=64", "policy.batched_cfg=true"]


SHAPES: dict[str, tuple[str, Callable[[Path], list[str]]]] = {
    "FLUX.1 Kontext": ("kontext", wide_flux),
    "FLUX.2 klein": ("klein-4b", deep_klein),
    "Qwen-Image-Edit": ("qwen-edit", qwen),
    "SD 1.5 + IP-Adapter": ("sd15-ip-adapter", unet),
}


def recipe_of(name: str, folder: Path, *overrides: str) -> Recipe:
    """A recipe that trains a shape of :data:`SHAPES`, which is saved below `folder`."""
    base, save = SHAPES[name]
    return load_recipe(base, [*PLAIN, *save(folder), *overrides])
