"""What identity rewards share: compare a picture's embedding with its reference's."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F
from transformers import AutoImageProcessor, AutoModel

from likewise.rewards.pictures import check_pictures, check_tasks, in_batches
from likewise.types import Task


class Likeness:
    """Cosine between the pooled features of a picture and of its task's reference, in [-1, 1].

    Args:
        path_or_name: Directory or hub name of a vision ``AutoModel`` whose output has a
            ``pooler_output``, with its image processor.
        device: Where to encode.
    """

    def __init__(self, path_or_name: str | Path, device: str | torch.device = "cpu") -> None:
        self.device = torch.device(device)
        self.model: Any = AutoModel.from_pretrained(path_or_name).to(self.device).eval()
        self.processor: Any = AutoImageProcessor.from_pretrained(path_or_name)

    def score(self, images: Sequence[Image.Image], tasks: Sequence[Task]) -> tuple[Tensor, Tensor]:
        """Values float32 [B] and valid bool [B]; see :class:`likewise.protocols.Reward`.

        Raises:
            ValueError: a picture or reference is not RGB (the message names it), or there are not
                as many pictures as tasks.
        """
        check_tasks(images, tasks)
        check_pictures([task.reference for task in tasks], "reference")
        references = self.embed([self.reference(task) for task in tasks])
        values = F.cosine_similarity(self.embed(images), references, dim=-1)
        return values, torch.tensor([self.is_valid(task) for task in tasks], dtype=torch.bool)

    def embed(self, images: Sequence[Image.Image]) -> Tensor:
        """Pooled features, float32 [B, D] on the CPU, not normalised.

        Raises:
            ValueError: a picture is not RGB (the message names it).
        """
        check_pictures(images)
        return in_batches(images, self._encode)

    def reference(self, task: Task) -> Image.Image:
        """The picture that stands for the task's subject."""
        return task.reference

    def is_valid(self, task: Task) -> bool:
        """Whether this task can be scored."""
        return True

    @torch.no_grad()
    def _encode(self, images: Sequence[Image.Image]) -> Tensor:
        pixels = self.processor(images=list(images), return_tensors="pt")["pixel_values"]
        return self.model(pixels.to(self.device)).pooler_output.flatten(1)
