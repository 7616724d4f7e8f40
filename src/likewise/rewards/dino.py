"""Identity reward: is it the same subject? DINO's CLS tokens, whole or segmented."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from transformers import AutoConfig, ViTConfig

from likewise.rewards.likeness import Likeness, Transform, load_encoder
from likewise.types import Task

BACKGROUND = (232, 232, 234)  # a plain, light grey studio backdrop


class DinoReward(Likeness):
    """Cosine between the CLS tokens of a picture and of its task's reference, in [-1, 1].

    DINO is Caron et al. 2021 (arXiv:2104.14294), DINOv2 Oquab et al. 2023 (arXiv:2304.07193);
    DreamBooth (arXiv:2208.12242) introduced this cosine as a measure of subject fidelity. The token
    is taken after the last layer norm. A copy of the reference scores 1.0 unless `segment`.

    Args:
        path_or_name: Directory or hub name of a ``ViTModel`` (DINO) or ``Dinov2Model`` with its
            image processor.
        segment: Grey out the reference's background by ``task.reference_mask`` first ("DINO-Seg"),
            so that only the subject is compared; tasks without a mask are not valid then.
        device: Where to encode.
        transform: How pictures become pixels; see :func:`likewise.rewards.likeness.load_encoder`.
    """

    def __init__(
        self,
        path_or_name: str | Path,
        segment: bool = False,
        device: str | torch.device = "cpu",
        transform: Transform = "own",
    ) -> None:
        options = _without_pooler(path_or_name)
        super().__init__(*load_encoder(path_or_name, transform, **options), device)
        self.segment = segment

    def reference(self, task: Task) -> Image.Image:
        """The task's reference, its background greyed out if `segment`."""
        if self.segment and task.reference_mask is not None:
            return segmented(task.reference, task.reference_mask)
        return task.reference

    def is_valid(self, task: Task) -> bool:
        """False where `segment` asks for a mask that the task does not have."""
        return not self.segment or task.reference_mask is not None

    def _features(self, pixels: Tensor) -> Tensor:
        return self.model(pixels).last_hidden_state[:, 0]


def _without_pooler(path_or_name: str | Path) -> dict[str, Any]:
    """DINO was trained without the dense layer that ``ViTModel`` would add, at random, on top."""
    config = AutoConfig.from_pretrained(path_or_name)
    return {"add_pooling_layer": False} if isinstance(config, ViTConfig) else {}


def segmented(picture: Image.Image, mask: Image.Image) -> Image.Image:
    """The picture with plain grey wherever the mask (255 = subject) is 0.

    Raises:
        ValueError: the mask's mode is not ``L`` or its size is not the picture's.
    """
    if mask.mode != "L" or mask.size != picture.size:
        raise ValueError(
            f"mask has mode {mask.mode!r} and size {mask.size}; "
            f"wanted 'L' and the picture's {picture.size}"
        )
    return Image.composite(picture, Image.new("RGB", picture.size, BACKGROUND), mask)
