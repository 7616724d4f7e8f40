"""Models that give every pixel a label: semantic and panoptic segmentation."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache, partial
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from transformers import (
    MODEL_FOR_SEMANTIC_SEGMENTATION_MAPPING,
    MODEL_FOR_UNIVERSAL_SEGMENTATION_MAPPING,
    AutoModelForSemanticSegmentation,
    AutoModelForUniversalSegmentation,
)

from likewise.pretrained.first_use import first_use
from likewise.pretrained.models import load_config, load_model
from likewise.pretrained.processors import load_image_processor
from likewise.rewards.common.inputs import BLANK, check_images, in_parts
from likewise.rewards.segmenters.masks import mask_of

BATCH_SIZE = 4  # a score per label and pixel of the image: 150 labels at 1024² are 0.6 GB
WINDOW = 16  # images prepared at a time, of which batches are made: 12 MB each at 1024²
NEED_MORE = ("oneformer", "eomt", "eomt_dinov3", "videomt")  # than pixels: a task, crops, frames


class LabelledSegmenter:
    """Implements `Segmenter` with the labels of a semantic or panoptic model (ADE20K, COCO).

    The mask is where the most likely label is one that :func:`matching_labels` gives for the class
    name; ``None`` if there is no such pixel. A class without such a label is not one it knows. A
    checkpoint for instances alone is of no use here: it has no label for the background.

    Args:
        path_or_name: Directory or hub name, with its image processor.
        device: Where to segment.

    Raises:
        OSError: there is no such model.
        ValueError: the model is neither semantic nor panoptic.
    """

    def __init__(self, path_or_name: str | Path, device: str | torch.device = "cpu") -> None:
        self.device = torch.device(device)
        kind = _kind(path_or_name)
        model = load_model(kind, path_or_name, dtype=torch.float32)
        self.model = model.to(self.device).eval()
        self.processor = load_image_processor(path_or_name)
        # Comparing a name with 150 labels takes milliseconds, and images share names.
        self._labels = cache(partial(matching_labels, id2label=model.config.id2label))
        with first_use(path_or_name, {"": self.model}, ""):
            self._batch([self._pixels(BLANK)], [BLANK])

    def knows(self, class_name: str) -> bool:
        """See `Segmenter`; false where no label matches."""
        return bool(self._labels(class_name))

    def masks(
        self, images: Sequence[Image.Image], class_names: Sequence[str]
    ) -> Sequence[Image.Image | None]:
        """See :class:`likewise.rewards.segmenters.masks.Segmenter`."""
        check_images(images)
        found: list[Image.Image | None] = [None] * len(images)
        wanted = [self._labels(name) for name in class_names]
        known = [b for b, labels in enumerate(wanted) if labels]
        for part in in_parts(known, WINDOW):
            for b, labels in self._label_maps({b: images[b] for b in part}):
                found[b] = mask_of(np.isin(labels, wanted[b]))
        return found

    def _label_maps(self, images: Mapping[int, Image.Image]) -> Iterator[tuple[int, np.ndarray]]:
        """Each image's index, and the label of its every pixel; images of one shape together."""
        # Images are prepared one by one: processors pad those of one call to the largest.
        pixels = {b: self._pixels(image) for b, image in images.items()}
        for part in _by_shape(pixels):
            batch = self._batch([pixels[b] for b in part], [images[b] for b in part])
            yield from zip(part, batch, strict=True)

    def _pixels(self, image: Image.Image) -> Tensor:
        """[1, 3, H, W] of the processor's own making."""
        return self.processor(images=[image], return_tensors="pt")["pixel_values"]

    @torch.no_grad()
    def _batch(self, pixels: Sequence[Tensor], images: Sequence[Image.Image]) -> list[np.ndarray]:
        """The label of every pixel, int64 of each image's [height, width]."""
        outputs = self.model(pixel_values=torch.cat(list(pixels)).to(self.device))
        sizes = [(image.height, image.width) for image in images]
        maps = self.processor.post_process_semantic_segmentation(outputs, target_sizes=sizes)
        return [each.cpu().numpy() for each in maps]


def matching_labels(class_name: str, id2label: Mapping[int, str]) -> list[int]:
    """Labels that mean the class, as whole words, whatever their case and punctuation.

    Labels may list synonyms ("animal, fauna"). If one is the class name itself, only such labels
    count: "dog" is not "hot dog" where there is "dog". Else all that contain it: "sky" is
    "sky-other-merged".
    """
    name = _words(class_name)
    if not name:
        return []
    synonyms = {
        label: [_words(one) for one in re.split("[,;]", text)] for label, text in id2label.items()
    }
    same = [label for label, each in synonyms.items() if name in each]
    return same or [k for k, each in synonyms.items() if any(_within(name, s) for s in each)]


def _words(text: str) -> list[str]:
    return re.findall(r"[^\W_]+", text.lower())


def _within(name: list[str], words: list[str]) -> bool:
    return any(words[at : at + len(name)] == name for at in range(len(words)))


def _by_shape(pixels: Mapping[int, Tensor]) -> Iterator[Sequence[int]]:
    """Indices of images of one shape, at most BATCH_SIZE at a time."""

    def shape(index: int) -> tuple[int, ...]:
        return tuple(pixels[index].shape)

    for _, group in groupby(sorted(pixels, key=shape), key=shape):
        yield from in_parts(list(group), BATCH_SIZE)


def _kind(path_or_name: str | Path) -> Any:
    config = load_config(path_or_name)
    if config.model_type not in NEED_MORE:
        if type(config) in MODEL_FOR_SEMANTIC_SEGMENTATION_MAPPING:
            return AutoModelForSemanticSegmentation
        if type(config) in MODEL_FOR_UNIVERSAL_SEGMENTATION_MAPPING:
            return AutoModelForUniversalSegmentation
    raise ValueError(
        f"{path_or_name} is a {config.model_type!r} model; wanted CLIPSeg, a semantic model "
        "(such as SegFormer), or a panoptic one (such as Mask2Former)"
    )
