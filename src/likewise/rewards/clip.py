"""CLIP: does the image show what was asked for (CLIP-T), and the same subject (CLIP-I)?

CLIP is Radford et al. 2021 (arXiv:2103.00020). Its own processor is what published numbers use.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F
from transformers import CLIPModel, CLIPProcessor

from likewise.pretrained.first_use import first_use
from likewise.pretrained.models import load_model
from likewise.pretrained.processors import load_image_processor, load_tokenizer
from likewise.rewards.common.inputs import (
    BLANK,
    check_images,
    check_tasks,
    embed_distinct,
    in_batches,
)
from likewise.rewards.common.likeness import Likeness, load_encoder
from likewise.types import Task


class ClipReward:
    """Cosine between an image and its task's prompt in CLIP's joint space, in [-1, 1].

    Args:
        path_or_name: Directory or hub name of a ``CLIPModel`` with its processor.
        device: Where to encode.
        processor: Directory or hub name of another processor than the model's own.
        dtype: Of the model; what it was saved in does not count.
    """

    def __init__(
        self,
        path_or_name: str | Path,
        device: str | torch.device = "cpu",
        processor: str | Path | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.device = torch.device(device)
        model = load_model(CLIPModel, path_or_name, dtype=dtype)
        self.model = model.to(self.device).eval()
        parts = processor or path_or_name
        self.processor = CLIPProcessor(load_image_processor(parts), load_tokenizer(parts))
        with first_use(path_or_name, {"": self.model}, ""):
            self._encode_images([BLANK])
            self._encode_texts(["a picture"])

    def score(self, images: Sequence[Image.Image], tasks: Sequence[Task]) -> tuple[Tensor, Tensor]:
        """Values float32 [B] and valid bool [B]; see :class:`likewise.protocols.Reward`.

        Raises:
            ValueError: an image is not RGB (the message names it), or the lengths differ.
        """
        check_tasks(images, tasks)
        texts = embed_distinct([task.prompt for task in tasks], self.embed_texts, key=str)
        values = F.cosine_similarity(self.embed_images(images), texts, dim=-1)
        return values, torch.ones(len(values), dtype=torch.bool)

    def embed_images(self, images: Sequence[Image.Image]) -> Tensor:
        """Projected image embeddings, float32 [B, D] on the CPU, not normalised."""
        check_images(images)
        return in_batches(images, self._encode_images, self.model.config.projection_dim)

    def embed_texts(self, texts: Sequence[str]) -> Tensor:
        """Projected text embeddings, float32 [B, D] on the CPU, not normalised.

        Longer texts are cut at the text encoder's limit (77 tokens), as is usual with CLIP.
        """
        return in_batches(texts, self._encode_texts, self.model.config.projection_dim)

    def truncated(self, texts: Sequence[str]) -> list[bool]:
        """Whether each text is longer than the encoder's limit, so that its end is not read."""
        limit = self.model.config.text_config.max_position_embeddings
        tokenizer = self.processor.tokenizer
        return [len(tokenizer(text, verbose=False)["input_ids"]) > limit for text in texts]

    @torch.no_grad()
    def _encode_images(self, images: Sequence[Image.Image]) -> Tensor:
        inputs = self.processor(images=list(images), return_tensors="pt").to(self.device)
        return self.model.get_image_features(**inputs).pooler_output

    @torch.no_grad()
    def _encode_texts(self, texts: Sequence[str]) -> Tensor:
        # Padding to one length makes the result independent of what else is in the batch.
        inputs = self.processor(
            text=list(texts),
            padding="max_length",
            truncation=True,
            max_length=self.model.config.text_config.max_position_embeddings,
            return_tensors="pt",
        ).to(self.device)
        return self.model.get_text_features(**inputs).pooler_output


class ClipT(ClipReward):
    """CLIP-T as it is published: the same cosine, 0 where it is negative. For evaluation."""

    def score(self, images: Sequence[Image.Image], tasks: Sequence[Task]) -> tuple[Tensor, Tensor]:
        """Values float32 [B] in [0, 1] and valid bool [B]."""
        values, valid = super().score(images, tasks)
        return values.clamp(min=0), valid


class ClipI(Likeness):
    """CLIP-I: cosine between the projected embeddings of an image and of its task's reference.

    Args:
        path_or_name: Directory or hub name of a ``CLIPModel`` with its processor.
        device: Where to encode.
    """

    def __init__(self, path_or_name: str | Path, device: str | torch.device = "cpu") -> None:
        super().__init__(*load_encoder(path_or_name), device)
        self.try_out(path_or_name)

    def _features(self, pixels: Tensor) -> Tensor:
        return self.model.get_image_features(pixel_values=pixels).pooler_output
