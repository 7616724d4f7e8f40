"""What embeddings of images say about each other, by d = 1 − cosine (docs/method.md §6)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

MIN_DISTANCE = 0.01  # photos nearer to the conditioning one are the same again: the index explodes


def copy_index(image: Tensor, conditioning: Tensor, held_out: Tensor) -> float | None:
    """How much an image copies the photo that conditioned it.

        (d(image, held-out) − d(image, conditioning)) / d(held-out, conditioning)

    with means over the held-out photos. 1 for a copy of the conditioning photo, about 0 for a
    photo like the others, negative for one nearer to them.

    Args:
        image, conditioning: Embeddings [D].
        held_out: Of the subject's other photos, [P, D].

    Returns:
        None without held-out photos, or where these are the conditioning photo over again.
    """
    if not len(held_out):
        return None
    photos = unit(held_out)
    to_conditioning = float(unit(image) @ unit(conditioning))
    to_held_out = float((photos @ unit(image)).mean())
    spread = 1 - float((photos @ unit(conditioning)).mean())
    return (to_conditioning - to_held_out) / spread if spread >= MIN_DISTANCE else None


def mean_distances(embeddings: Tensor) -> Tensor:
    """Mean distance of each image to the others, float64 [n] in [0, 2].

    Args:
        embeddings: [n, D], n ≥ 2.

    Raises:
        ValueError: n < 2.
    """
    count = len(embeddings)
    if count < 2:
        raise ValueError("an image alone has no distance to others")
    directions = unit(embeddings)
    return (1 - directions @ directions.T).fill_diagonal_(0).sum(dim=1) / (count - 1)


def unit(embeddings: Tensor) -> Tensor:
    """Float64 of length 1."""
    return F.normalize(embeddings.to(torch.float64), dim=-1)
