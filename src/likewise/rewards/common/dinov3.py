"""DINOv3's preprocessing of images (Siméoni et al. 2025, arXiv:2508.10104).

transformers has a processor for it only where torchvision is installed. This is the same
arithmetic, on the checkpoint's own settings: scale to [0, 1], then resize what is float by now (so
nothing is rounded to whole levels, unlike in PIL), then normalise.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F
from transformers.image_processing_utils import ImageProcessingMixin

from likewise.pretrained.errors import loading
from likewise.rewards.common.inputs import IMAGENET_MEAN, IMAGENET_STD

MODES = {Image.Resampling.BILINEAR: "bilinear", Image.Resampling.BICUBIC: "bicubic"}
FOLLOWED: Mapping[str, bool] = {
    "do_resize": True,
    "do_rescale": True,
    "do_normalize": True,
    "do_center_crop": False,
}


def dinov3_pixels(path_or_name: str | Path) -> Callable[[Sequence[Image.Image]], Tensor]:
    """RGB images → [B, 3, H, W], as the checkpoint's processor settings say.

    Raises:
        OSError: there are no processor settings.
        ValueError: the settings ask for something that DINOv3's processor does not do.
    """
    with loading(f"{path_or_name}: its image processor"):
        settings, _ = ImageProcessingMixin.get_image_processor_dict(path_or_name)
        _check_settings(settings)
        size = settings.get("size") or {"height": 224, "width": 224}
        return partial(
            _pixels,
            size=(size["height"], size["width"]),
            mode=MODES[settings.get("resample", Image.Resampling.BILINEAR)],
            scale=settings.get("rescale_factor", 1 / 255),
            mean=_channels(settings.get("image_mean"), IMAGENET_MEAN),
            std=_channels(settings.get("image_std"), IMAGENET_STD),
        )


def _check_settings(settings: Mapping[str, Any]) -> None:
    for name, wanted in FOLLOWED.items():
        if name in settings and bool(settings[name]) is not wanted and settings[name] is not None:
            raise ValueError(f"DINOv3's image processor: {name} must be {wanted}")
    if settings.get("resample", Image.Resampling.BILINEAR) not in MODES:
        raise ValueError("DINOv3's image processor: resample must be 2 (bilinear) or 3 (bicubic)")
    if settings.get("size") and set(settings["size"]) != {"height", "width"}:
        raise ValueError("DINOv3's image processor: size must give height and width")


def _channels(given: Sequence[float] | None, default: np.ndarray) -> Tensor:
    return torch.tensor(default if given is None else given, dtype=torch.float32).view(3, 1, 1)


def _pixels(
    images: Sequence[Image.Image],
    size: tuple[int, int],
    mode: str,
    scale: float,
    mean: Tensor,
    std: Tensor,
) -> Tensor:
    resized = []
    for image in images:
        levels = torch.from_numpy(np.asarray(image, dtype=np.float32)).permute(2, 0, 1)
        resized.append(F.interpolate((levels * scale)[None], size, mode=mode, antialias=True))
    return (torch.cat(resized) - mean) / std
