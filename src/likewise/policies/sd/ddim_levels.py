"""The noise levels of a Stable Diffusion pipeline, as diffusers' DDIM scheduler has them."""

from __future__ import annotations

import copy
from typing import Any

import torch
from diffusers import DDIMScheduler
from torch import Tensor

from likewise.algorithm.schedule import variance_preserving_sigma

PREDICTIONS = ("epsilon", "v_prediction")


def ddim_scheduler(scheduler: Any) -> DDIMScheduler:
    """A DDIM scheduler with the settings of the one that the pipeline came with.

    ``clip_sample`` is off, as the stock SD 1.5 pipeline has it: a clipped step is not Gaussian, and
    latents are not bounded by 1.

    Raises:
        ValueError: the settings do not describe a diffusion that a Gaussian transition can follow.
    """
    name, config = type(scheduler).__name__, scheduler.config
    if "beta_schedule" not in config:
        raise ValueError(f"scheduler {name} has no beta_schedule: this policy needs a diffusion")
    ddim = DDIMScheduler.from_config(config, clip_sample=False)
    prediction = ddim.config.prediction_type
    if prediction not in PREDICTIONS:
        raise ValueError(
            f"scheduler {name} has prediction_type {prediction!r}; "
            f"this policy takes {' and '.join(PREDICTIONS)}"
        )
    if ddim.config.thresholding:
        raise ValueError(
            f"scheduler {name} has thresholding on: a thresholded step is not Gaussian, and "
            "latents are not bounded; set it to false in scheduler_config.json"
        )
    if ddim.config.rescale_betas_zero_snr and prediction == "epsilon":
        raise ValueError(
            f"scheduler {name} has rescale_betas_zero_snr with prediction_type epsilon: from pure "
            "noise epsilon gives no image; such models predict v (v_prediction)"
        )
    return ddim


def step_levels(scheduler: DDIMScheduler, num_steps: int) -> Tensor:
    """σ = √(1 − ᾱ) of the timesteps that the scheduler visits, and where its last step ends.

    A copy of the scheduler is asked, because ``set_timesteps`` changes it. It takes every step by
    1000 // T timesteps; where its timesteps are spaced otherwise (``linspace``, or ``trailing``
    with a T that does not divide 1000), that misses the next one by a little, and the model is then
    told a level that its latents do not have. Here a step always ends where the next one starts.

    Args:
        num_steps: T ≥ 1.

    Returns:
        float64 [T+1], falling.

    Raises:
        ValueError: the scheduler has no T steps that all reduce noise.
    """
    count = scheduler.config.num_train_timesteps
    if not 1 <= num_steps <= count:
        raise ValueError(f"num_steps must be 1 to {count}, not {num_steps}")
    scheduler = copy.copy(scheduler)
    scheduler.set_timesteps(num_steps)
    times = scheduler.timesteps
    if times[0] >= count:
        raise ValueError(
            f"num_steps {num_steps} with the scheduler's steps_offset "
            f"{scheduler.config.steps_offset} goes beyond its {count} timesteps: take fewer"
        )
    end = int(times[-1]) - count // num_steps
    last = scheduler.alphas_cumprod[end] if end >= 0 else scheduler.final_alpha_cumprod
    alphas = torch.cat([scheduler.alphas_cumprod[times], last.reshape(1)])
    if not (alphas[1:] > alphas[:-1]).all():
        raise ValueError(
            "the scheduler's last step stays at the level where it starts: set set_alpha_to_one to "
            "true, or timestep_spacing to leading and steps_offset to 1, in scheduler_config.json"
        )
    return variance_preserving_sigma(alphas)
