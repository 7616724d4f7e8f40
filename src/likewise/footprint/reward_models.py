"""What reward models take, and on which device."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

import torch

from likewise.footprint.tracker import Tracker

DEFAULT_SIDE = 224  # pixels; processors of DINOs crop to it, whatever their config says


def copies_here(device: str | None, processes: int) -> int:
    """How many copies of a reward model are on the GPU of a training process, at most.

    Args:
        device: The reward's, as in a recipe; None: that of the process.
        processes: Of a machine, each on its own GPU, counted from 0.
    """
    if device is None or device == "cuda:+0":
        return 1
    if device == "cpu" or device.startswith("cuda:+"):
        return 0
    return processes if int(device.removeprefix("cuda:")) < processes else 0


def copies_there(device: str, processes: int) -> int:
    """How many are on the reward's own device."""
    return 1 if device.startswith("cuda:+") else processes


def encoding_peak(model: Any, images: int, world: AbstractContextManager[None]) -> int | None:
    """Most bytes that a vision model takes beside its weights, for so many images.

    None where it is not a plain vision model, such as a language model that also reads images.

    Args:
        model: Of `weightless_encoder`, made in `world`.
    """
    config = model.config
    is_clip = hasattr(model, "get_image_features") and hasattr(config, "projection_dim")
    if not is_clip and not hasattr(config, "image_size"):
        return None
    side = config.vision_config.image_size if is_clip else DEFAULT_SIDE
    with world, torch.no_grad(), Tracker() as tracker:
        tracker.know([*model.parameters(), *model.buffers()])
        pixels = torch.zeros(images, 3, side, side, dtype=model.dtype)
        if is_clip:
            model.get_image_features(pixel_values=pixels)
        else:
            model(pixel_values=pixels)
    return tracker.peak
