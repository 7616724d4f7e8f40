"""Noise levels of a sampling run, and the only conversion between noise level and model time."""

from __future__ import annotations

import torch
from torch import Tensor

TRAIN_STEPS = 1000  # of every flow-matching model in diffusers: timestep = 1000·σ


def shifted_sigmas(num_steps: int, shift: float) -> Tensor:
    """The grid with a static shift: float32 [T+1] from 1 to 0 (SD3, 2403.03206; docs/method.md §1).

        σ_lin = linspace(1, 0, T+1),    σ = shift·σ_lin / (1 + (shift − 1)·σ_lin)

    A shift above 1 spends more steps near noise. The operations and their order are those of
    diffusers' ``FlowMatchEulerDiscreteScheduler``, so that both agree in every bit. For a shift
    that float32 cannot hold exactly, the first level may miss 1 by one rounding, as it does there.

    Args:
        num_steps: T ≥ 1.
        shift: > 0; the paper uses 3.

    Raises:
        ValueError: an argument is out of its range.
    """
    if not shift > 0:
        raise ValueError(f"shift must be positive, not {shift}")
    linear = _linear_sigmas(num_steps)
    return shift * linear / (1 + (shift - 1) * linear)


def resolution_mu(
    image_tokens: int,
    base_tokens: int = 256,
    max_tokens: int = 4096,
    base_shift: float = 0.5,
    max_shift: float = 1.15,
) -> float:
    """FLUX's shift parameter μ, linear in the number of image tokens.

        μ = base_shift + (max_shift − base_shift)·(tokens − base_tokens)/(max_tokens − base_tokens)

    Larger images need more noise to be hidden, hence a larger μ. The line also extends beyond
    its two defining points. Defaults are FLUX.1's; a pipeline's scheduler config may say otherwise
    (``base_image_seq_len``, ``max_image_seq_len``, ``base_shift``, ``max_shift``).

    Args:
        image_tokens: Length of the latent sequence *without* reference tokens, ≥ 1.

    Raises:
        ValueError: no tokens, or the two defining points coincide.
    """
    if image_tokens < 1:
        raise ValueError(f"image_tokens must be at least 1, not {image_tokens}")
    if max_tokens == base_tokens:
        raise ValueError(f"base_tokens and max_tokens are both {base_tokens}: no line through them")
    slope = (max_shift - base_shift) / (max_tokens - base_tokens)
    return image_tokens * slope + (base_shift - slope * base_tokens)


def to_timestep(sigma: Tensor) -> Tensor:
    """Timestep 1000·σ as schedulers count it, float32 of the same shape; not rounded."""
    return sigma.float() * TRAIN_STEPS


def model_time(sigma: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """What a flow transformer takes as its time: t/1000, of the same shape, in the model's `dtype`.

    This is σ up to rounding. It takes diffusers' detour (1000·σ, cast, ÷1000), because in bfloat16
    the direct way gives another value, and then another velocity than the stock pipeline's.
    """
    return to_timestep(sigma).to(dtype) / TRAIN_STEPS


def variance_preserving_sigma(alpha: Tensor) -> Tensor:
    """Noise level σ = √(1 − ᾱ) of a variance-preserving model, float64 of the same shape.

    float64, so that :func:`variance_preserving_alpha` gives a float32 ᾱ back in every bit.
    """
    return (1 - alpha.double()).sqrt()


def variance_preserving_alpha(sigma: Tensor) -> Tensor:
    """Cumulative product ᾱ = 1 − σ², float32 of the same shape; σ in float64."""
    return (1 - sigma**2).float()


def nearest_timestep(sigma: Tensor, levels: Tensor) -> Tensor:
    """The integer timestep whose level is nearest, int64 [B]: a discrete model's time.

    Args:
        sigma: [B], any float dtype.
        levels: σ of each timestep, float32 [N] on the same device.
    """
    return (levels - sigma.float()[:, None]).abs().argmin(dim=1)


def _linear_sigmas(num_steps: int) -> Tensor:
    """linspace(1, 0, T+1), computed in float64 and rounded once, as numpy does for diffusers."""
    if num_steps < 1:
        raise ValueError(f"num_steps must be at least 1, not {num_steps}")
    return torch.linspace(1, 0, num_steps + 1, dtype=torch.float64).float()
