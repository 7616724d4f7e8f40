"""What the contrastively trained encoders share: the loss, and stock image processors."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import BitImageProcessorPil

from likewise.data.stickers.rendering import SIDE

# Pixels to [-1, 1], as likewise.pretrain.conversion.to_tensor does.
NORMALISATION: dict[str, Any] = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}


def image_processor() -> BitImageProcessorPil:
    """Resize to SIDE × SIDE without cropping, scale to [-1, 1]."""
    return BitImageProcessorPil(
        size={"height": SIDE, "width": SIDE},
        do_center_crop=False,
        do_convert_rgb=True,
        **NORMALISATION,
    )


def info_nce(
    anchors: Tensor, candidates: Tensor, temperature: float, excluded: Tensor | None = None
) -> Tensor:
    """InfoNCE (van den Oord et al. 2018, arXiv:1807.03748): find your own among all candidates.

    Args:
        anchors: [B, D] of unit length; the positive of anchor i is candidate i.
        candidates: [M ≥ B, D] of unit length.
        temperature: Divides the cosines.
        excluded: Optional bool [B, M]; true where a candidate must not count as a negative.
    """
    logits = anchors @ candidates.T / temperature
    if excluded is not None:
        logits = logits.masked_fill(excluded, -torch.inf)
    return F.cross_entropy(logits, torch.arange(len(anchors), device=anchors.device))
