"""What identity rewards share: compare an image's embedding with its reference's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F
from transformers import AutoModel

from likewise.pretrained.first_use import first_use
from likewise.pretrained.models import load_model
from likewise.pretrained.processors import load_image_processor
from likewise.rewards.common.dinov3 import dinov3_pixels
from likewise.rewards.common.inputs import (
    BLANK,
    check_images,
    check_tasks,
    dreambench_pixels,
    embed_distinct,
    in_batches,
)
from likewise.types import Task

Pixels = Callable[[Sequence[Image.Image]], Tensor]  # B images → [B, 3, H, W]
Transform = Literal["own", "dreambench"]


class Likeness:
    """Cosine between the pooled features of an image and of its task's reference, in [-1, 1].

    Args:
        model: A vision model whose output has a ``pooler_output``.
        pixels: What makes its input from images.
        device: Where to encode.
    """

    def __init__(self, model: Any, pixels: Pixels, device: str | torch.device = "cpu") -> None:
        self.device = torch.device(device)
        self.model = model.to(self.device).eval()
        self.pixels = pixels

    def try_out(self, name: str | Path) -> None:
        """Embed one image, so that a config with a wrong setting is named right after loading.

        Args:
            name: What the model was loaded from.

        Raises:
            ModelError: it fails.
        """
        with first_use(name, {"": self.model}, ""):
            self.embed([BLANK])

    def score(self, images: Sequence[Image.Image], tasks: Sequence[Task]) -> tuple[Tensor, Tensor]:
        """Values float32 [B] and valid bool [B]; see :class:`likewise.protocols.Reward`.

        Raises:
            ValueError: an image or reference is not RGB (the message names it), or there are not
                as many images as tasks.
        """
        check_tasks(images, tasks)
        check_images([task.reference for task in tasks], "reference")
        found = {b: one for b, one in enumerate(self.references(tasks)) if one is not None}
        compared = self.compared([images[b] for b in found], [tasks[b] for b in found])
        known = embed_distinct(list(found.values()), self.embed)
        values, valid = torch.full([len(tasks)], torch.nan), torch.zeros(len(tasks)).bool()
        values[list(found)] = F.cosine_similarity(self.embed(compared), known, dim=-1)
        valid[list(found)] = True
        return values, valid

    def embed(self, images: Sequence[Image.Image]) -> Tensor:
        """Pooled features, float32 [B, D] on the CPU, not normalised.

        Raises:
            ValueError: an image is not RGB (the message names it).
        """
        check_images(images)
        return in_batches(images, self._encode)

    def references(self, tasks: Sequence[Task]) -> Sequence[Image.Image | None]:
        """What stands for each task's subject; ``None`` where nothing does, so that it is missing.

        An object that stands for several tasks is embedded once.
        """
        return [task.reference for task in tasks]

    def compared(
        self, images: Sequence[Image.Image], tasks: Sequence[Task]
    ) -> Sequence[Image.Image]:
        """What of each image is compared with the reference."""
        return images

    @torch.no_grad()
    def _encode(self, images: Sequence[Image.Image]) -> Tensor:
        return self._features(self.pixels(images).to(self.device))

    def _features(self, pixels: Tensor) -> Tensor:
        """[B, D] of the model's input [B, 3, H, W], both on its device."""
        return self.model(pixels).pooler_output.flatten(1)


def load_encoder(
    path_or_name: str | Path, transform: Transform = "own", **options: Any
) -> tuple[Any, Pixels]:
    """Model and pixels of a directory or Hub name of a vision ``AutoModel`` with its processor.

    Args:
        transform: ``own`` as the checkpoint's processor says; ``dreambench`` as the benchmark's
            published numbers were measured (`dreambench_pixels`), at the size that the processor
            makes of a square image.
        options: For `load_model` of the model, which is float32 unless they say otherwise:
            transformers would take over whatever precision the checkpoint was saved in.

    Raises:
        OSError, ValueError: there is no such model, or it is damaged or incomplete.
    """
    model = load_model(AutoModel, path_or_name, **{"dtype": torch.float32, **options})
    own = _own_pixels(path_or_name, model.config.model_type)
    if transform == "own":
        return model, own
    # Not the configuration's image_size, which is 518 for DINOv2, whose processor makes 224.
    side = own([Image.new("RGB", (256, 256))]).shape[-1]
    return model, partial(dreambench_pixels, side=side)


def _own_pixels(path_or_name: str | Path, model_type: str) -> Pixels:
    if model_type.startswith("dinov3"):
        return dinov3_pixels(path_or_name)
    processor = load_image_processor(path_or_name)

    def pixels(images: Sequence[Image.Image]) -> Tensor:
        return processor(images=list(images), return_tensors="pt")["pixel_values"]

    return pixels
