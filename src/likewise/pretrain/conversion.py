"""Between PIL images and model tensors."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from torch import Tensor


def to_tensor(image: Image.Image) -> Tensor:
    """RGB image → float32 [3, H, W] in [-1, 1] (what diffusers' VAEs take)."""
    array = np.asarray(image.convert("RGB"), dtype=np.float32)
    return torch.from_numpy(array).permute(2, 0, 1) / 127.5 - 1.0


def to_image(image: Tensor) -> Image.Image:
    """Float [3, H, W] in [-1, 1] → RGB image."""
    array = ((image.detach().float().cpu().clamp(-1, 1) + 1) * 127.5).round()
    return Image.fromarray(array.permute(1, 2, 0).to(torch.uint8).numpy(), "RGB")
