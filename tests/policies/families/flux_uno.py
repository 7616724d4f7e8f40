"""UNO on FLUX.1: a tiny FluxPipeline, and a random UNO LoRA in its published layout."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import tiny
import torch
from diffusers import FluxPipeline
from PIL import Image
from policies.families import Family
from safetensors.torch import save_file
from torch import Tensor

from likewise.policies.flux_uno import FluxUnoPolicy
from likewise.types import Task

LONGEST = 24  # pixels of a reference's longer side: at most 6×6 tokens of 4×4 pixels
RANK = 3


def uno_weights(
    doubles: int, singles: int, width: int, mlp: int, rank: int = RANK, device: str = "cpu"
) -> dict[str, Tensor]:
    """A LoRA of random weights, with the keys and shapes of UNO's ``dit_lora.safetensors``.

    Args:
        doubles, singles: Numbers of blocks; FLUX.1-dev 19 and 38.
        width, mlp: Channels of the model and inside its MLPs; FLUX.1-dev 3072 and 12288.
    """
    sizes = {}  # inputs and outputs of each layer
    for block in range(doubles):
        for stream in (1, 2):
            name = f"double_blocks.{block}.processor"
            sizes[f"{name}.qkv_lora{stream}"] = (width, 3 * width)
            sizes[f"{name}.proj_lora{stream}"] = (width, width)
    for block in range(singles):
        sizes[f"single_blocks.{block}.processor.qkv_lora"] = (width, 3 * width)
        sizes[f"single_blocks.{block}.processor.proj_lora"] = (width + mlp, width)
    weights = {}
    generator = torch.Generator(device).manual_seed(4) if device == "cpu" else None
    for name, (inputs, outputs) in sizes.items():
        for half, shape in (("down", (rank, inputs)), ("up", (outputs, rank))):
            values = torch.randn(shape, generator=generator, device=device)
            weights[f"{name}.{half}.weight"] = values * 0.2
    return weights


def tiny_uno() -> dict[str, Tensor]:
    """For the transformer of :func:`pipeline`."""
    return uno_weights(1, 2, 32, 128)


def pipeline() -> FluxPipeline:
    parts = FluxPipeline(**tiny.tiny_pipeline(guidance_embeds=True).components)
    parts.set_progress_bar_config(disable=True)
    return parts


def policy(dtype: torch.dtype = torch.float32, **options: Any) -> FluxUnoPolicy:
    options = {"reference_size": LONGEST, **options}
    return FluxUnoPolicy(
        pipeline().to(dtype), tiny.HEIGHT_PIXELS, tiny.WIDTH_PIXELS, tiny.TEXT_LENGTH, **options
    )


def reference_tokens(stock: FluxPipeline, image: Image.Image) -> tuple[Tensor, int, int]:
    """Tokens [1, h·w, 4C] of a reference, and its rows and columns, by stock's own functions."""
    scale = LONGEST / max(image.size)
    wide, tall = (int(side * scale + 1e-6) for side in image.size)
    width, height = wide // 4 * 4, tall // 4 * 4
    left, top = (wide - width) // 2, (tall - height) // 2
    whole = image.resize((wide, tall), Image.Resampling.LANCZOS)
    pixels = stock.image_processor.preprocess(
        whole.crop((left, top, left + width, top + height)), height, width
    )
    config = stock.vae.config
    latents = stock.vae.encode(pixels).latent_dist.mode()
    latents = (latents - config.shift_factor) * config.scaling_factor
    tokens = stock._pack_latents(latents, 1, config.latent_channels, height // 2, width // 2)
    return tokens, height // 4, width // 4


@torch.no_grad()
def stock(ours: FluxUnoPolicy, task: Task, steps: int, seed: int) -> Tensor:
    """``FluxPipeline.__call__``, which takes no references, on a transformer that sees them.

    Hooks append tokens and ids, and cut the output; all else (text, noise, schedule, guidance,
    sampler) is stock's.
    """
    theirs = ours.pipeline
    row, column = tiny.HEIGHT_PIXELS // 4, tiny.WIDTH_PIXELS // 4
    length, tokens, ids = row * column, [], []
    for image in task.references:
        own, height, width = reference_tokens(theirs, image)
        positions = theirs._prepare_latent_image_ids(1, height, width, own.device, torch.float32)
        tokens.append(own)
        ids.append(positions + torch.tensor([0.0, row, column]))
        row, column = row + height, column + width

    def append(model: Any, args: Any, given: dict[str, Any]) -> Any:
        given["hidden_states"] = torch.cat([given["hidden_states"], *tokens], dim=1)
        given["img_ids"] = torch.cat([given["img_ids"], *ids])
        return args, given

    handles = (
        theirs.transformer.register_forward_pre_hook(append, with_kwargs=True),
        theirs.transformer.register_forward_hook(lambda *call: (call[-1][0][:, :length],)),
    )
    try:
        return theirs(
            prompt=task.prompt,
            negative_prompt=ours.guidance.negative_prompt,
            true_cfg_scale=ours.guidance.scale,
            guidance_scale=ours.embedded_guidance,
            height=tiny.HEIGHT_PIXELS,
            width=tiny.WIDTH_PIXELS,
            num_inference_steps=steps,
            generator=torch.Generator().manual_seed(seed),
            max_sequence_length=tiny.TEXT_LENGTH,
            output_type="latent",
        ).images
    finally:
        for handle in handles:
            handle.remove()


def save(folder: Path) -> list[str]:
    pipeline().save_pretrained(folder / "flux")
    save_file(tiny_uno(), folder / "uno.safetensors")
    return [
        f"policy.model={folder / 'flux'}",
        f"policy.uno_lora={folder / 'uno.safetensors'}",
        f"policy.height={tiny.HEIGHT_PIXELS}",
        f"policy.width={tiny.WIDTH_PIXELS}",
        f"policy.max_sequence_length={tiny.TEXT_LENGTH}",
        f"policy.reference_size={LONGEST}",
    ]


FAMILY = Family(
    name="UNO on FLUX.1",
    kind="flux-uno",
    recipe="paper",
    pipeline=pipeline,
    policy=policy,
    stock=stock,
    save=save,
    max_references=2,
)
