"""Do the images of a group differ from each other?"""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image
from torch import Tensor

from likewise.algorithm.embeddings import mean_distances
from likewise.protocols import Encoder


class InGroupDiversity:
    """Mean distance 1 − cosine to the group's other images, in [0, 2]; 0 where all are equal.

    Implements :class:`likewise.protocols.GroupReward`. Falling values mean that the generator
    narrows down to one image per task (mode collapse).

    Args:
        encoder: Says how near images are to each other.
    """

    def __init__(self, encoder: Encoder) -> None:
        self.encoder = encoder

    def embed(self, images: Sequence[Image.Image]) -> Tensor:
        """Embeddings float32 [B, D]; raises ValueError where an image is not RGB."""
        return self.encoder.embed(images)

    def compare(self, group: Tensor) -> Tensor:
        """Values float32 [n] of n ≥ 2 images of one task, from their embeddings [n, D]."""
        return mean_distances(group).float()
