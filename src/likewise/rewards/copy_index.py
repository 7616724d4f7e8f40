"""Is the reference copied rather than its subject drawn?"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from PIL import Image
from torch import Tensor

from likewise.algorithm.embeddings import copy_index
from likewise.protocols import Encoder
from likewise.rewards.common.inputs import check_images, check_tasks, embed_distinct
from likewise.types import Task


class CopyIndexReward:
    """The copy index (docs/method.md §6), or minus it as a penalty.

    1 for a copy of the reference, about 0 for an image like the subject's other photos, negative
    for one that is nearer to them. Likeness to the reference alone rewards copying; this shows it,
    or works against it. Tasks without other photos are missing.

    Args:
        encoder: Says how near images are to each other.
        penalty: Minus the index, so that higher is better, as of all that is credited.
    """

    def __init__(self, encoder: Encoder, penalty: bool = True) -> None:
        self.encoder = encoder
        self.sign = -1 if penalty else 1

    def score(self, images: Sequence[Image.Image], tasks: Sequence[Task]) -> tuple[Tensor, Tensor]:
        """Values float32 [B] and valid bool [B]; see :class:`likewise.protocols.Reward`.

        Raises:
            ValueError: an image or photo is not RGB, or the lengths differ.
        """
        check_tasks(images, tasks)
        photos = [photo for task in tasks for photo in task.photos]
        check_images(photos, "photo")
        known = embed_distinct(photos, self.encoder.embed).split([len(t.photos) for t in tasks])
        embeddings = self.encoder.embed(images)
        found = [
            copy_index(one, own[0], own[1:]) for one, own in zip(embeddings, known, strict=True)
        ]
        valid = torch.tensor([index is not None for index in found], dtype=torch.bool)
        return self.sign * torch.tensor([index or 0.0 for index in found]), valid
