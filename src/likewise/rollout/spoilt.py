"""Images that no reward should see: not finite, or all of one colour. They are missing, never 0."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from likewise.protocols import AnyReward
from likewise.rollout.scoring import Asked, Scores, to_pil
from likewise.types import Task

NOT_FINITE, FLAT = "not_finite", "flat"
MARK = "likewise:spoilt"  # in an image's `info`, and so in a PNG's text: what 8 bits cannot tell


def find_spoilt(images: Sequence[Tensor] | Tensor) -> list[str]:
    """For each image float32 [3, H, W] in [0, 1]: why it is spoilt, or an empty string.

    `not_finite` holds a NaN or an infinity, as overflows leave behind; `flat` has one colour
    throughout once it is rounded to 8 bits.
    """
    return [_why(image) for image in images]


def _why(image: Tensor) -> str:
    if not bool(image.isfinite().all()):
        return NOT_FINITE
    levels = (image * 255).round().flatten(1)
    return FLAT if bool((levels == levels[:, :1]).all()) else ""


def to_marked_pil(images: Sequence[Tensor] | Tensor) -> list[Image.Image]:
    """As `rollout.scoring.to_pil`; images that are spoilt carry the reason in ``info[MARK]``."""
    found = to_pil(images)
    for image, why in zip(found, find_spoilt(images), strict=True):
        if why:
            image.info[MARK] = why
    return found


def why_spoilt(image: Image.Image) -> str:
    """As `find_spoilt`, of an 8-bit RGB image: what its mark or its pixels say."""
    if image.info.get(MARK) == NOT_FINITE:
        return NOT_FINITE
    levels = np.asarray(image)
    return FLAT if bool((levels == levels[0, 0]).all()) else ""


class AskedUsable(Asked):
    """Questions about the images that are not spoilt; every reward is missing for the others.

    Args:
        decoded: Images float32 [B, 3, H, W] in [0, 1], as the policy decodes them.
    """

    def __init__(
        self,
        rewards: Mapping[str, AnyReward],
        decoded: Sequence[Tensor] | Tensor,
        tasks: Sequence[Task],
    ) -> None:
        self.reasons = find_spoilt(decoded)
        self.usable = [index for index, why in enumerate(self.reasons) if not why]
        self.all_names = list(rewards)
        images = to_pil([decoded[index] for index in self.usable])
        own = [tasks[index] for index in self.usable]
        super().__init__(rewards if self.usable else {}, images, own)

    def scores(self, since: float) -> Scores:
        """Of all images; `spoilt` counts those that were left out."""
        found = super().scores(since)
        if len(self.usable) == len(self.reasons):
            return found
        spoilt = Counter(why for why in self.reasons if why)
        return replace(spread(found, self.usable, self.all_names, len(self.reasons)), spoilt=spoilt)


def spread(found: Scores, indices: Sequence[int], names: Sequence[str], count: int) -> Scores:
    """Scores of the images at `indices` among `count`, where all others are missing."""
    values = torch.zeros(len(names), count)
    valid = torch.zeros(len(names), count, dtype=torch.bool)
    if indices:
        values[:, list(indices)], valid[:, list(indices)] = found.values, found.valid
    embeddings = {}
    for name, own in found.embeddings.items():
        embeddings[name] = torch.full((count, own.shape[1]), torch.nan)
        embeddings[name][list(indices)] = own
    return replace(found, values=values, valid=valid, embeddings=embeddings)
