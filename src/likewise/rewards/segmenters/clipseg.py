"""CLIPSeg: where does the image show what a text names?

Lüddecke and Ecker 2022 (arXiv:2112.10003).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F
from transformers import CLIPSegForImageSegmentation, CLIPSegProcessor

from likewise.pretrained.first_use import first_use
from likewise.pretrained.models import load_model
from likewise.pretrained.processors import load_image_processor, load_tokenizer
from likewise.rewards.common.inputs import BLANK, check_images, in_parts
from likewise.rewards.segmenters.masks import mask_of

BATCH_SIZE = 8
THRESHOLD = 0.5  # of the probability, by whose cross-entropy the model was trained


class ClipSegSegmenter:
    """Implements `Segmenter` with a ``CLIPSegForImageSegmentation``, prompted with class names.

    Logits are brought to the image's size (bilinear); the subject is where their sigmoid is above
    0.5.

    Args:
        path_or_name: Directory or hub name, with its processor.
        device: Where to segment.
    """

    def __init__(self, path_or_name: str | Path, device: str | torch.device = "cpu") -> None:
        self.device = torch.device(device)
        model = load_model(CLIPSegForImageSegmentation, path_or_name, dtype=torch.float32)
        self.model = model.to(self.device).eval()
        images, tokens = load_image_processor(path_or_name), load_tokenizer(path_or_name)
        self.processor = CLIPSegProcessor(images, tokens)
        with first_use(path_or_name, {"": self.model}, ""):
            self._logits([BLANK], ["thing"])

    def knows(self, class_name: str) -> bool:
        """See `Segmenter`; false for a blank name: it would find something, but what?"""
        return bool(class_name.strip())

    def masks(
        self, images: Sequence[Image.Image], class_names: Sequence[str]
    ) -> Sequence[Image.Image | None]:
        """See :class:`likewise.rewards.segmenters.masks.Segmenter`."""
        check_images(images)
        found: list[Image.Image | None] = [None] * len(images)
        known = [b for b, name in enumerate(class_names) if self.knows(name)]
        for part in in_parts(known, BATCH_SIZE):
            logits = self._logits([images[b] for b in part], [class_names[b] for b in part])
            for b, own in zip(part, logits, strict=True):
                found[b] = _mask(images[b], own)
        return found

    @torch.no_grad()
    def _logits(self, images: Sequence[Image.Image], class_names: Sequence[str]) -> Tensor:
        """[B, h, w] at the model's own resolution."""
        inputs = self.processor(
            text=list(class_names),
            images=list(images),
            padding="max_length",  # so that no mask depends on the longest name
            truncation=True,
            max_length=self.model.config.text_config.max_position_embeddings,
            return_tensors="pt",
        ).to(self.device)
        return self.model(**inputs).logits


def _mask(image: Image.Image, logits: Tensor) -> Image.Image | None:
    size = (image.height, image.width)
    large = F.interpolate(logits[None, None], size, mode="bilinear", align_corners=False)[0, 0]
    return mask_of((large.sigmoid() > THRESHOLD).cpu().numpy())
