"""Identity reward: is it the same subject? DINO's CLS tokens, of whole images or subjects."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from likewise.pretrained.models import load_config
from likewise.rewards.common.bands import Band, banded
from likewise.rewards.common.likeness import Likeness, Transform, load_encoder
from likewise.rewards.segmenters.masks import Segmenter, check_mask, is_empty
from likewise.types import Task

BACKGROUND = (232, 232, 234)  # a plain, light grey studio backdrop
MODEL_TYPES = ("vit", "dinov2", "dinov2_with_registers", "dinov3_vit", "dinov3_convnext")


class DinoReward(Likeness):
    """Cosine between the CLS tokens of an image and of its task's reference, in [-1, 1].

    DINO is Caron et al. 2021 (arXiv:2104.14294), DINOv2 Oquab et al. 2023 (arXiv:2304.07193), with
    registers Darcet et al. 2023 (arXiv:2309.16588), DINOv3 Siméoni et al. 2025 (arXiv:2508.10104);
    DreamBooth (arXiv:2208.12242) introduced this cosine as a measure of subject fidelity. The token
    is taken after the last layer norm; a DINOv3 ConvNeXt's is its pooled one. A copy of the
    reference scores 1.0 unless one of the two is segmented.

    A task is missing (not valid) where its subject cannot be told from the background: the
    reference is to be segmented, and neither its mask nor the segmenter finds a subject; or the
    segmenter is needed, for the reference or the image, and does not know the task's class. The
    image itself never makes a task missing.

    Args:
        path_or_name: Directory or hub name of a ``ViTModel`` (DINO), ``Dinov2Model``,
            ``Dinov2WithRegistersModel``, ``DINOv3ViTModel`` or ``DINOv3ConvNextModel`` with its
            image processor.
        segment: Grey out the reference's background ("DINO-Seg"), so that images are compared
            with the subject alone: by ``task.reference_mask``, else by `segmenter`.
        device: Where to encode.
        transform: How images are preprocessed; see `common.likeness.load_encoder`.
        segment_generated: Grey out the scored images' background too, by `segmenter`. An image
            where it looks for the subject and finds none counts as all background, which is
            unlike any subject: were it missing, an image would escape its low score by losing the
            subject.
        segmenter: Finds subjects; see :func:`likewise.rewards.segmenters.load_segmenter`.
        band, blur: Which detail of image and subject is compared; see `common.bands.banded`.

    Raises:
        OSError: there is no such model.
        ValueError: the model is not a DINO, or `segment_generated` lacks a segmenter.
    """

    def __init__(
        self,
        path_or_name: str | Path,
        segment: bool = False,
        device: str | torch.device = "cpu",
        transform: Transform = "own",
        segment_generated: bool = False,
        segmenter: Segmenter | None = None,
        band: Band = "all",
        blur: float = 0.05,
    ) -> None:
        if segment_generated and segmenter is None:
            raise ValueError("segment_generated needs a segmenter: tasks have no masks of it")
        options = _model_options(path_or_name)
        model, own = load_encoder(path_or_name, transform, **options)
        super().__init__(
            model, lambda images: own([banded(one, band, blur) for one in images]), device
        )
        self.try_out(path_or_name)
        self.segment = segment
        self.segment_generated = segment_generated
        self.segmenter = segmenter

    def references(self, tasks: Sequence[Task]) -> Sequence[Image.Image | None]:
        """Each task's reference; its subject alone if `segment`; ``None`` where it is missing.

        Raises:
            ValueError: a mask is not of mode ``L`` or not of its reference's size.
        """
        references = self._subjects(tasks) if self.segment else super().references(tasks)
        if not self.segment_generated:
            return references
        pairs = zip(references, tasks, strict=True)
        return [reference if self._knows(task) else None for reference, task in pairs]

    def compared(
        self, images: Sequence[Image.Image], tasks: Sequence[Task]
    ) -> Sequence[Image.Image]:
        """The images; their subjects alone if `segment_generated`."""
        if not self.segment_generated:
            return images
        masks = self._found(images, tasks)
        return [
            segmented(image, Image.new("L", image.size) if mask is None else mask)
            for image, mask in zip(images, masks, strict=True)
        ]

    def _subjects(self, tasks: Sequence[Task]) -> Sequence[Image.Image | None]:
        first = {_shown(task): task for task in tasks}  # tasks of one group are segmented once
        masks = self._reference_masks(list(first.values()))
        subjects = {
            shown: None if mask is None else segmented(task.reference, mask)
            for (shown, task), mask in zip(first.items(), masks, strict=True)
        }
        return [subjects[_shown(task)] for task in tasks]

    def _reference_masks(self, tasks: Sequence[Task]) -> Sequence[Image.Image | None]:
        masks = [_own_mask(task) for task in tasks]
        lacking = [b for b, mask in enumerate(masks) if mask is None and self._knows(tasks[b])]
        found = self._found([tasks[b].reference for b in lacking], [tasks[b] for b in lacking])
        for b, mask in zip(lacking, found, strict=True):
            masks[b] = mask
        return masks

    def _knows(self, task: Task) -> bool:
        return self.segmenter is not None and self.segmenter.knows(task.class_name)

    def _found(
        self, images: Sequence[Image.Image], tasks: Sequence[Task]
    ) -> Sequence[Image.Image | None]:
        if not images:  # which a custom function need not expect
            return []
        assert self.segmenter is not None
        return self.segmenter.masks(images, [task.class_name for task in tasks])

    def _features(self, pixels: Tensor) -> Tensor:
        return self.model(pixels).last_hidden_state[:, 0]


def _shown(task: Task) -> Hashable:
    """What of a task decides on its segmented reference."""
    return id(task.reference), id(task.reference_mask), task.class_name


def _own_mask(task: Task) -> Image.Image | None:
    """The mask that came with the reference, unless it shows nothing."""
    mask = task.reference_mask
    if mask is None:
        return None
    check_mask(mask, task.reference.size, f"task {task.id!r}: reference_mask")
    return None if is_empty(mask) else mask


def _model_options(path_or_name: str | Path) -> dict[str, Any]:
    kind = load_config(path_or_name).model_type
    if kind not in MODEL_TYPES:
        raise ValueError(
            f"{path_or_name} is a {kind!r} model, whose CLS token is elsewhere; "
            f"wanted one of {', '.join(MODEL_TYPES)}"
        )
    # DINO was trained without the dense layer that ViTModel would add, at random, on top.
    return {"add_pooling_layer": False} if kind == "vit" else {}


def segmented(image: Image.Image, mask: Image.Image) -> Image.Image:
    """The image with plain grey wherever the mask (255 = subject) is 0.

    Raises:
        ValueError: the mask's mode is not ``L`` or its size is not the image's.
    """
    check_mask(mask, image.size)
    return Image.composite(image, Image.new("RGB", image.size, BACKGROUND), mask)
