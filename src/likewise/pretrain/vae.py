"""The nano autoencoder: f4, eight smooth latent channels, trained for low pixel error."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import torch
from diffusers import AutoencoderKL
from torch import Tensor
from torch.nn import functional as F

from likewise.pretrain import nano
from likewise.pretrain.loop import Batch, FitRun, FitSettings, fit, start_from
from likewise.pretrain.samples import vae_sample
from likewise.tensors import save_pretrained

SETTINGS = FitSettings(
    name="vae", steps=2200, batch_size=16, learning_rate=2e-3, weight_decay=0.0, ema_decay=0.995
)

SUBJECT_WEIGHT = 3.0  # extra weight of pixels that show the subject: its marks are small
KL_WEIGHT = 1e-4  # pulls latents towards unit scale and smoothness, at little cost in sharpness
STATISTICS_SAMPLES = 1024


def train(run: FitRun, target: Path, settings: FitSettings = SETTINGS) -> bool:
    """Train (or resume); when finished, save to `target`, latent statistics in its config."""
    vae = nano.build_vae()
    start_from(vae, run.warm_start and run.warm_start / "nano-kontext" / "vae")
    vae = vae.to(memory_format=torch.channels_last)
    if not fit(vae, vae_sample, lambda batch, noise: _loss(vae, batch, noise), settings, run):
        return False
    shift, scale = _latent_statistics(vae, run.device)
    vae.register_to_config(shift_factor=shift, scaling_factor=scale)
    save_pretrained(vae.to("cpu", memory_format=torch.contiguous_format), target)
    return True


def _loss(
    vae: AutoencoderKL, batch: Batch, generator: torch.Generator
) -> tuple[Tensor, Mapping[str, Tensor]]:
    image = batch["image"].contiguous(memory_format=torch.channels_last)
    posterior = vae.encode(image).latent_dist
    noise = torch.randn(posterior.mean.shape, generator=generator, device=image.device)
    decoded = vae.decode(posterior.mean + posterior.std * noise).sample.float()
    kl = posterior.kl().mean() / posterior.mean[0].numel()
    weight = 1.0 + SUBJECT_WEIGHT * batch["mask"]
    difference = weight * (decoded - image) / weight.mean()
    # A share of absolute error keeps edges crisp without hurting the PSNR noticeably.
    squared, absolute = (difference * (decoded - image)).mean(), difference.abs().mean()
    loss = squared + 0.1 * absolute + KL_WEIGHT * kl
    error = F.mse_loss(decoded, image)
    return loss, {"psnr": 10 * torch.log10(4 / error), "kl": kl}


@torch.no_grad()
def _latent_statistics(vae: AutoencoderKL, device: torch.device) -> tuple[float, float]:
    """Shift and scale that give latents of zero mean and unit standard deviation."""
    # Indices far beyond those that training uses, but of the same training split.
    images = [vae_sample(10**9 + index)["image"] for index in range(STATISTICS_SAMPLES)]
    latents = [
        vae.encode(torch.stack(images[start : start + 64]).to(device)).latent_dist.mode()
        for start in range(0, len(images), 64)
    ]
    values = torch.cat(latents)
    return float(values.mean()), float(1 / math.sqrt(float(values.var())))
