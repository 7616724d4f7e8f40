"""One sampling step σ → σ' as a Gaussian N(mean, std²), and the log-prob of what was drawn.

Every transition returns ``(mean, std)``: mean like x, std without dimensions or [B, 1, …, 1], so
that ``mean + std * noise`` draws and :func:`gaussian_log_prob` scores. Common to all:

- x, v: latents and predicted velocity (noise − image), [B, …], same shape, any float dtype; the
  arithmetic and the results are float32 (float64 stays float64). diffusers' ``scheduler.step``
  would round to the model's dtype instead.
- sigma, sigma_next: σ and σ' with 0 ≤ σ' < σ ≤ 1, each a number or [B]. dt = σ' − σ < 0.
- x0 = x − σ·v and x1 = x + (1 − σ)·v are the image and the noise that v points at.
- ValueError for shapes that do not fit and for numbers out of range. Ranges of tensors are checked
  only on the CPU: looking at one on a GPU would stall it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from likewise.algorithm.schedule import variance_preserving_alpha

Level = float | Tensor  # a number, or one number per sample [B]
Parameterization = Literal["epsilon", "v_prediction"]

ROUNDING = 1e-5  # by how much a shifted grid's first level may exceed 1


def ode(x: Tensor, v: Tensor, sigma: Level, sigma_next: Level) -> tuple[Tensor, Tensor]:
    """The probability-flow ODE, one Euler step: no randomness, hence no log-prob.

    mean = x + v·dt,    std = 0
    """
    x, v, sigma, sigma_next = _step(x, v, sigma, sigma_next)
    dt = sigma_next - sigma
    return x + v * dt, torch.zeros_like(dt)


def dance_sde(
    x: Tensor, v: Tensor, sigma: Level, sigma_next: Level, eta: float
) -> tuple[Tensor, Tensor]:
    """Dance-SDE: the same noise rate η at every level (DanceGRPO, arXiv:2505.07818; the paper).

        mean = x + v·dt + ½η²·((x − (1 − σ)·x0)/σ²)·dt,    std = η·√(−dt)

    The last step, σ' = 0, is random too.

    Args:
        eta: η ≥ 0; the paper 0.4, DanceGRPO 0.3. At 0 this is :func:`ode`.
    """
    _require(eta >= 0, f"eta must not be negative, not {eta}")
    x, v, sigma, sigma_next = _step(x, v, sigma, sigma_next)
    dt = sigma_next - sigma
    x0 = x - sigma * v
    minus_score = (x - (1 - sigma) * x0) / sigma**2
    mean = x + v * dt + 0.5 * eta**2 * minus_score * dt
    return mean, eta * (-dt).sqrt()


def flow_sde(
    x: Tensor, v: Tensor, sigma: Level, sigma_next: Level, noise_level: float, sigma_max: Level
) -> tuple[Tensor, Tensor]:
    """Flow-SDE: noise grows with the level (Flow-GRPO, arXiv:2505.05470).

        s = a·√(σ/(1 − min(σ, σ_max)))
        mean = x·(1 + s²/(2σ)·dt) + v·(1 + s²·(1 − σ)/(2σ))·dt,    std = s·√(−dt)

    At σ = 1 the denominator would be 0; there it uses σ_max, the schedule's *second* level
    (``sigmas[1]``). The minimum does the same on a schedule, whose other levels are not above
    σ_max, and also holds where rounding leaves the first level a little off 1.

    Args:
        noise_level: a ≥ 0; Flow-GRPO 0.7. At 0 this is :func:`ode`.
        sigma_max: σ_max in (0, 1).
    """
    _require(noise_level >= 0, f"noise_level must not be negative, not {noise_level}")
    x, v, sigma, sigma_next = _step(x, v, sigma, sigma_next)
    sigma_max = spread(sigma_max, x)
    _require((sigma_max > 0) & (sigma_max < 1), "sigma_max must lie in (0, 1): use sigmas[1]")
    dt = sigma_next - sigma
    s = noise_level * (sigma / (1 - torch.minimum(sigma, sigma_max))).sqrt()
    keep = 1 + s**2 / (2 * sigma) * dt
    move = (1 + s**2 * (1 - sigma) / (2 * sigma)) * dt
    return x * keep + v * move, s * (-dt).sqrt()


def cps(
    x: Tensor, v: Tensor, sigma: Level, sigma_next: Level, noise_level: float
) -> tuple[Tensor, Tensor]:
    """Coefficients-preserving sampling: exactly σ' of noise remains (Flow-CPS, arXiv:2509.05952).

        s = σ'·sin(aπ/2)
        mean = (1 − σ')·x0 + √(σ'² − s²)·x1,    std = s

    Part of the predicted noise x1 is exchanged for fresh noise: a = 0 is :func:`ode`, a = 1 is all
    fresh. √(σ'² − s²) is computed as σ'·cos(aπ/2), which does not cancel. The last step, σ' = 0,
    has std 0: it is deterministic, has no log-prob, and must not be among the trained steps.

    Args:
        noise_level: a in [0, 1].
    """
    _require(0 <= noise_level <= 1, f"noise_level must lie in [0, 1], not {noise_level}")
    x, v, sigma, sigma_next = _step(x, v, sigma, sigma_next)
    angle = noise_level * math.pi / 2
    x0 = x - sigma * v
    x1 = x + (1 - sigma) * v
    mean = (1 - sigma_next) * x0 + sigma_next * math.cos(angle) * x1
    return mean, sigma_next * math.sin(angle)


def ddim(
    x: Tensor,
    output: Tensor,
    alpha: Level,
    alpha_next: Level,
    eta: float,
    parameterization: Parameterization = "epsilon",
) -> tuple[Tensor, Tensor]:
    """DDIM(η) for variance-preserving models such as SD 1.5 and SDXL (Song et al., 2010.02502).

        ε-prediction: ε = output,                 x0 = (x − √(1 − ᾱ)·ε)/√ᾱ
        v-prediction: ε = √ᾱ·output + √(1 − ᾱ)·x, x0 = √ᾱ·x − √(1 − ᾱ)·output
        std  = η·√((1 − ᾱ')/(1 − ᾱ))·√(1 − ᾱ/ᾱ')
        mean = √ᾱ'·x0 + √(1 − ᾱ' − std²)·ε

    The last step of a scheduler with ``set_alpha_to_one``, ᾱ' = 1, has std 0, as in :func:`cps`.

    Args:
        x, output: Latents and what the model predicted, [B, …], same shape.
        alpha, alpha_next: Cumulative products ᾱ, ᾱ' at this and the next timestep, numbers or [B];
            0 ≤ ᾱ < ᾱ' ≤ 1, and ᾱ > 0 for ε-prediction, which cannot tell x0 from pure noise.
        eta: η in [0, 1]; 0 is deterministic, 1 the ancestral sampler of DDPM.
        parameterization: ``"epsilon"`` or ``"v_prediction"``.
    """
    _require(0 <= eta <= 1, f"eta must lie in [0, 1], not {eta}")
    x, output = _same_shape(x, output)
    alpha, alpha_next = spread(alpha, x), spread(alpha_next, x)
    in_range = (alpha >= 0) & (alpha < alpha_next) & (alpha_next <= 1)
    _require(in_range, "wanted 0 <= alpha < alpha_next <= 1: noise must fall from step to step")
    if parameterization == "epsilon":
        _require(alpha > 0, "alpha 0 is pure noise, from which epsilon gives no image")
        noise = output
        x0 = (x - (1 - alpha).sqrt() * noise) / alpha.sqrt()
    elif parameterization == "v_prediction":
        noise = alpha.sqrt() * output + (1 - alpha).sqrt() * x
        x0 = alpha.sqrt() * x - (1 - alpha).sqrt() * output
    else:
        raise ValueError(f"parameterization is 'epsilon' or 'v_prediction', not {parameterization}")
    variance = eta**2 * (1 - alpha_next) / (1 - alpha) * (1 - alpha / alpha_next)
    # Rounding may leave a tiny negative number where the exact one is 0.
    direction = (1 - alpha_next - variance).clamp_min(0).sqrt() * noise
    return alpha_next.sqrt() * x0 + direction, variance.sqrt()


@dataclass(frozen=True)
class StepContext:
    """What the transitions of the table need beside x, v and the noise level.

    Attributes:
        sigma, sigma_next: σ and σ' of the step, without dimensions; float64 where no flow is
            predicted, for :func:`schedule.variance_preserving_alpha`.
        second: σ_1 of the schedule.
        parameterization: What the model predicts, where that is not a flow velocity.
    """

    sigma: Tensor
    sigma_next: Tensor
    second: Tensor
    parameterization: Parameterization


# By the names that a recipe has for them, from x, v, the step and `noise_level`. What a recipe has
# to know of each is in `config.rollout.TRANSITIONS`.
TRANSITIONS: dict[str, Callable[[Tensor, Tensor, StepContext, float], tuple[Tensor, Tensor]]] = {
    "flow-sde": lambda x, v, at, level: flow_sde(x, v, at.sigma, at.sigma_next, level, at.second),
    "dance-sde": lambda x, v, at, level: dance_sde(x, v, at.sigma, at.sigma_next, level),
    "cps": lambda x, v, at, level: cps(x, v, at.sigma, at.sigma_next, level),
    "ddim": lambda x, v, at, level: ddim(
        x,
        v,
        variance_preserving_alpha(at.sigma),
        variance_preserving_alpha(at.sigma_next),
        level,
        at.parameterization,
    ),
}


def gaussian_log_prob(sample: Tensor, mean: Tensor, std: Level) -> Tensor:
    """Log-density of `sample` under N(mean, std²), *averaged* over the latent dimensions: [B].

        log p[b] = mean_d( −(sample − mean)²/(2·std²) − log std − ½·log 2π )

    The average, with its constants, makes the scale of a ratio independent of the resolution
    (docs/method.md §1; Flow-GRPO). Score the sample *as stored*, that is after rounding to the
    dtype it is replayed in: then the ratio before the first update is exactly 1.

    Args:
        sample, mean: [B, …] with at least two dimensions; float32 arithmetic as everywhere here.
        std: > 0; a number, [B], or anything that broadcasts such as a transition's [B, 1, …].

    Raises:
        ValueError: shapes differ, there is no latent dimension, or std is not positive (the ODE,
            and the last step of CPS and DDIM, have no density).
    """
    sample, mean = _same_shape(sample, mean)
    _require(sample.ndim >= 2, f"wanted [B, …] with latent dimensions, got {list(sample.shape)}")
    std = spread(std, sample)
    _require(std > 0, "std must be positive: a deterministic step has no log-prob")
    terms = -0.5 * ((sample - mean) / std) ** 2 - std.log() - 0.5 * math.log(2 * math.pi)
    return terms.flatten(1).mean(1)


def spread(value: Level, x: Tensor) -> Tensor:
    """A number or [B] in x's dtype, shaped to broadcast along x's samples; more dimensions pass.

    Raises:
        ValueError: one-dimensional, but not one number per sample of x.
    """
    value = torch.as_tensor(value, dtype=x.dtype)
    if value.ndim != 1:
        return value
    if len(value) != len(x):
        raise ValueError(f"{len(value)} numbers for {len(x)} samples: wanted one each, or a number")
    return value.reshape(-1, *[1] * (x.ndim - 1))


def precise(x: Tensor) -> Tensor:
    """x in float32, or unchanged where it is float64."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _step(
    x: Tensor, v: Tensor, sigma: Level, sigma_next: Level
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The arguments that flow transitions share: checked, precise and ready to broadcast."""
    x, v = _same_shape(x, v)
    sigma, sigma_next = spread(sigma, x), spread(sigma_next, x)
    in_range = (sigma_next >= 0) & (sigma_next < sigma) & (sigma <= 1 + ROUNDING)
    _require(in_range, "wanted 0 <= sigma_next < sigma <= 1: noise must fall from step to step")
    return x, v, sigma, sigma_next


def _same_shape(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    if a.shape != b.shape:
        raise ValueError(f"shapes differ: {list(a.shape)} and {list(b.shape)}")
    return precise(a), precise(b)


def _require(condition: bool | Tensor, message: str) -> None:
    """Raise ValueError unless true everywhere; tensors on a GPU are trusted (module docstring)."""
    if isinstance(condition, Tensor):
        condition = condition.device.type != "cpu" or bool(condition.all())
    if not condition:
        raise ValueError(message)
