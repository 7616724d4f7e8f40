"""PickScore: which image would people pick for this prompt?"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from likewise.rewards.clip import ClipReward
from likewise.types import Task


class PickScoreReward(ClipReward):
    """The logit of a CLIP that was tuned on people's choices: exp(logit scale) · cosine.

    Kirstain et al. 2023 (arXiv:2305.01569). About 15 to 26 for the published model, whose scale is
    that of CLIP, near 100. Differences are what was trained: the softmax over two images of one
    prompt predicts which of them people prefer.

    Args:
        path_or_name: Directory or hub name of a ``CLIPModel``; published as
            ``yuvalkirstain/PickScore_v1``.
        processor: Directory or hub name of its processor, published as
            ``laion/CLIP-ViT-H-14-laion2B-s32B-b79K``; ``None`` for the model's own.
        device: Where to encode.
        dtype: Of the model. In half precision, cosines that differ by less than about 1e-3 may
            come out the same, which is 0.1 in this reward.
    """

    def __init__(
        self,
        path_or_name: str | Path,
        processor: str | Path | None = None,
        device: str | torch.device = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__(path_or_name, device, processor, dtype)
        self.scale = float(self.model.logit_scale.detach().float().exp())

    def score(self, images: Sequence[Image.Image], tasks: Sequence[Task]) -> tuple[Tensor, Tensor]:
        """Values float32 [B] and valid bool [B]; raises as :meth:`ClipReward.score`."""
        cosines, valid = super().score(images, tasks)
        return self.scale * cosines, valid
