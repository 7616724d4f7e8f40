"""FLUX's token layout: 2×2 latents per token, positions as (image index, row, column)."""

from __future__ import annotations

import copy

import numpy as np
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from diffusers.pipelines.flux import pipeline_flux_kontext as kontext
from torch import Tensor

from likewise.algorithm.schedule import resolution_mu

Grid = tuple[int, int]  # rows and columns of tokens


def pack(latents: Tensor) -> Tensor:
    """[B, C, 2h, 2w] → tokens [B, h·w, 4C]; channels of a token run (channel, row, column)."""
    batch, channels, height, width = latents.shape
    split = latents.reshape(batch, channels, height // 2, 2, width // 2, 2)
    return split.permute(0, 2, 4, 1, 3, 5).reshape(batch, -1, 4 * channels)


def unpack(tokens: Tensor, grid: Grid) -> Tensor:
    """Tokens [B, h·w, 4C] → [B, C, 2h, 2w]: the inverse of :func:`pack`."""
    batch, _, channels = tokens.shape
    split = tokens.reshape(batch, *grid, channels // 4, 2, 2)
    return split.permute(0, 3, 1, 4, 2, 5).reshape(batch, -1, 2 * grid[0], 2 * grid[1])


def position_ids(grid: Grid, index: int) -> Tensor:
    """Ids (index, row, column) of a token grid, float32 [h·w, 3], row-major.

    The image being drawn has index 0, its reference index 1 (docs/method.md §4). float32 even under
    a bfloat16 model, which would merge positions above 256; stock ids stay below, so both agree.
    """
    rows, columns = torch.arange(grid[0]), torch.arange(grid[1])
    return torch.cartesian_prod(torch.tensor([index]), rows, columns).float()


def reference_size(height: int, width: int, multiple: int, auto_resize: bool) -> tuple[int, int]:
    """Pixels (height, width) at which FLUX Kontext takes a reference: multiples of `multiple`.

    Its own size rounded down, or with `auto_resize` the preferred resolution (about one
    megapixel) of the nearest aspect ratio, as ``FluxKontextPipeline`` does.

    Raises:
        ValueError: a side is shorter than `multiple`.
    """
    if min(height, width) < multiple:
        raise ValueError(
            f"reference is {width}×{height} pixels; each side must have at least {multiple}"
        )
    width, height = width // multiple * multiple, height // multiple * multiple
    if auto_resize:
        aspect = width / height
        preferred = kontext.PREFERRED_KONTEXT_RESOLUTIONS
        _, width, height = min((abs(aspect - w / h), w, h) for w, h in preferred)
        width, height = width // multiple * multiple, height // multiple * multiple
    return height, width


def pipeline_sigmas(
    scheduler: FlowMatchEulerDiscreteScheduler, num_steps: int, image_tokens: int
) -> Tensor:
    """The σ grid that a FLUX pipeline with this scheduler uses: float32 [T+1] down to 0.

    Raises:
        ValueError: `num_steps` < 1.
    """
    config = scheduler.config
    mu = resolution_mu(
        image_tokens,
        config.get("base_image_seq_len", 256),
        config.get("max_image_seq_len", 4096),
        config.get("base_shift", 0.5),
        config.get("max_shift", 1.15),
    )
    return scheduler_sigmas(scheduler, num_steps, mu)


def scheduler_sigmas(
    scheduler: FlowMatchEulerDiscreteScheduler, num_steps: int, mu: float
) -> Tensor:
    """The σ grid of a scheduler at this μ: float32 [T+1] down to 0.

    The scheduler itself is asked, so that every setting of its config counts; a copy of it,
    because ``set_timesteps`` changes it.

    Raises:
        ValueError: `num_steps` < 1.
    """
    if num_steps < 1:
        raise ValueError(f"num_steps must be at least 1, not {num_steps}")
    scheduler = copy.deepcopy(scheduler)
    scheduler.set_timesteps(sigmas=np.linspace(1.0, 1 / num_steps, num_steps), mu=mu)
    return scheduler.sigmas
