"""Is the reference copied rather than its subject drawn?"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from PIL import Image
from torch import Tensor

from likewise.algorithm.embeddings import copy_index
from likewise.protocols import Encoder
from likewise.rewards.distinct import embed_distinct
from likewise.rewards.pictures import check_pictures, check_tasks
from likewise.types import Task


class CopyIndexReward:
    """Minus the copy index (METHOD §6): about 0 for a picture like the subject's other photos.

    −1 for a copy of the reference, positive for a picture that is nearer to the others. Scoring
    likeness against the reference alone rewards copying; as a diagnostic this shows it, as a reward
    it works against it. Tasks without other photos are missing.

    Args:
        encoder: Says how near pictures are to each other.
    """

    def __init__(self, encoder: Encoder) -> None:
        self.encoder = encoder

    def score(self, images: Sequence[Image.Image], tasks: Sequence[Task]) -> tuple[Tensor, Tensor]:
        """Values float32 [B] and valid bool [B]; see :class:`likewise.protocols.Reward`.

        Raises:
            ValueError: a picture or photo is not RGB, or the lengths differ.
        """
        check_tasks(images, tasks)
        albums = [(task.reference, *task.other_photos) for task in tasks]
        photos = [photo for album in albums for photo in album]
        check_pictures(photos, "photo")
        known = embed_distinct(photos, self.encoder.embed).split([len(album) for album in albums])
        pictures = self.encoder.embed(images)
        found = [copy_index(one, own[0], own[1:]) for one, own in zip(pictures, known, strict=True)]
        valid = torch.tensor([index is not None for index in found], dtype=torch.bool)
        return torch.tensor([-(index or 0.0) for index in found], dtype=torch.float32), valid
