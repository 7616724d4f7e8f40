"""FLUX.1 Kontext, on the tiny pipeline that most tests use."""

from __future__ import annotations

from pathlib import Path

import tiny
import torch
from policies.families import Family
from torch import Tensor

from likewise.policies.flux_kontext import FluxKontextPolicy
from likewise.types import Task


def stock(policy: FluxKontextPolicy, task: Task, steps: int, seed: int) -> Tensor:
    """What ``FluxKontextPipeline.__call__`` draws, as packed tokens."""
    return policy.pipeline(
        image=task.reference,
        prompt=task.prompt,
        height=tiny.HEIGHT_PIXELS,
        width=tiny.WIDTH_PIXELS,
        max_area=tiny.HEIGHT_PIXELS * tiny.WIDTH_PIXELS,
        num_inference_steps=steps,
        generator=torch.Generator().manual_seed(seed),
        max_sequence_length=tiny.TEXT_LENGTH,
        output_type="latent",
        _auto_resize=False,
    ).images


def save(folder: Path) -> list[str]:
    tiny.tiny_pipeline(guidance_embeds=True).save_pretrained(folder / "pipeline")
    return [
        f"policy.model={folder / 'pipeline'}",
        f"policy.height={tiny.HEIGHT_PIXELS}",
        f"policy.width={tiny.WIDTH_PIXELS}",
        f"policy.max_sequence_length={tiny.TEXT_LENGTH}",
    ]


FAMILY = Family(
    name="FLUX.1 Kontext",
    kind="flux-kontext",
    recipe="kontext",
    pipeline=tiny.tiny_pipeline,
    policy=tiny.make_policy,
    stock=stock,
    save=save,
)
