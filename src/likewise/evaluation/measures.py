"""Metrics of one image: likeness to its subject's photos, prompt, background.

Cosines of embeddings compare images; a distance is 1 − cosine. Likeness to the photo that
conditioned the generator rewards copying it, so likeness to the subject's other, *held-out* photos
stands beside it, and the copy index compares the two.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from likewise.algorithm.embeddings import copy_index, mean_distances, unit
from likewise.protocols import Encoder, Reward
from likewise.types import Task

Photos = list[tuple[str, Image.Image]]  # of a subject, each after its fingerprint
Columns = dict[str, list[Any]]  # float or None per image; lists of them in M/photos
TRUNCATED = "/truncated"  # after a prompt metric's name: bool or None per image


@runtime_checkable
class Truncating(Protocol):
    """A reward that reads only the beginning of long prompts."""

    def truncated(self, texts: Sequence[str]) -> list[bool]:
        """Whether each text is too long to be read whole."""
        ...


class Measures:
    """Measures images, each for its own task; columns by name, values in the images' order.

    Photos are embedded once per object, however often tasks show them, so one object should
    measure all images of an evaluation, in batches of any size.

    Args:
        likeness: Encoders by the metric's name (``dino``, ``clip-i``).
        prompt: Rewards by the metric's name (``clip-t``); their values are taken as they are.
    """

    def __init__(self, likeness: Mapping[str, Encoder], prompt: Mapping[str, Reward]) -> None:
        self.likeness = dict(likeness)
        self.prompt = dict(prompt)
        self._known: dict[tuple[str, str], Tensor] = {}  # [D], by metric and fingerprint

    def columns(
        self,
        images: Sequence[Image.Image],
        tasks: Sequence[Task],
        real: bool = False,
        embeddings: Mapping[str, Tensor] | None = None,
    ) -> Columns:
        """All columns but ``M/diversity`` that belong to B images and their B tasks.

        Per likeness metric M those of :class:`Likenesses` (``M/held-out``), per prompt metric its
        values, null where it has nothing to say, and ``background``. A prompt metric M that reads
        only so much of a prompt also has ``M/truncated``: whether it did not see the end.

        Args:
            images, tasks: RGB, one task each.
            real: The images are photos of their subjects: none is compared with itself, and
                they answer no prompt.
            embeddings: What :meth:`embed` made of the images, where that is known already.

        Raises:
            ValueError: an image is not RGB, there are not as many as tasks, or with `real` one is
                not among its subject's photos (the message names it or its subject).
        """
        if len(images) != len(tasks):
            raise ValueError(
                f"{len(images)} images but {len(tasks)} tasks: give one task per image"
            )
        embeddings = self.embed(images) if embeddings is None else embeddings
        photos = _photos(tasks)
        itself: list[set[int]] = [set() for _ in images]
        if real:
            triples = zip(images, photos, tasks, strict=True)
            itself = [_find(image, own, task) for image, own, task in triples]
        columns: Columns = {}
        for metric in self.likeness:
            columns |= self._likeness(metric, embeddings[metric], photos, itself)
        for metric, reward in self.prompt.items():
            nothing: list[Any] = [None] * len(images)
            asked = not real and len(images) > 0
            columns[metric] = _values(reward, images, tasks) if asked else nothing
            if isinstance(reward, Truncating):
                cut = reward.truncated([task.prompt for task in tasks]) if asked else nothing
                columns[metric + TRUNCATED] = cut
        columns["background"] = [
            None if 0 in left_out else background(image, task)
            for image, task, left_out in zip(images, tasks, itself, strict=True)
        ]
        return columns

    def embed(self, images: Sequence[Image.Image]) -> dict[str, Tensor]:
        """Embeddings float32 [B, D] by likeness metric, also for :func:`diversity`."""
        return {
            name: encoder.embed(images) if images else torch.zeros(0, 1)
            for name, encoder in self.likeness.items()
        }

    def _likeness(
        self, metric: str, embeddings: Tensor, photos: Sequence[Photos], itself: Sequence[set[int]]
    ) -> Columns:
        found = [
            likenesses(image, self._embed_photos(metric, own), left_out)
            for image, own, left_out in zip(embeddings, photos, itself, strict=True)
        ]
        return {
            f"{metric}/conditioning": [one.conditioning for one in found],
            f"{metric}/held-out": [one.held_out for one in found],
            f"{metric}/photos": [one.photos for one in found],
            f"{metric}/copy-index": [one.copy_index for one in found],
        }

    def _embed_photos(self, metric: str, photos: Photos) -> Tensor:
        """Embeddings [P, D] of a subject's P photos."""
        new = {key: photo for key, photo in photos if (metric, key) not in self._known}
        if new:
            found = self.likeness[metric].embed(list(new.values()))
            self._known.update({(metric, key): one for key, one in zip(new, found, strict=True)})
        return torch.stack([self._known[metric, key] for key, _ in photos])


@dataclass(frozen=True)
class Likenesses:
    """What one encoder says about one image; None where there is nothing to compare.

    Attributes:
        conditioning: Cosine to the photo that conditioned the generator.
        held_out: Mean cosine to the subject's other photos.
        photos: Cosines to all photos, the conditioning one first.
        copy_index: (d(image, held-out) − d(image, conditioning)) / d(held-out, conditioning),
            each d a mean over the held-out photos: 1 for a copy of the conditioning photo, about 0
            for a photo like the others, negative for one nearer to them.
    """

    conditioning: float | None
    held_out: float | None
    photos: list[float | None]
    copy_index: float | None


def likenesses(image: Tensor, photos: Tensor, left_out: Collection[int] = ()) -> Likenesses:
    """Compare embeddings: an image [D] with its subject's P ≥ 1 photos [P, D].

    Args:
        left_out: Indices of photos that are the image itself.
    """
    to_image = (unit(photos) @ unit(image)).numpy()
    others = [index for index in range(1, len(photos)) if index not in left_out]
    conditioning = None if 0 in left_out else float(to_image[0])
    held_out = float(to_image[others].mean()) if others else None
    copied = None if 0 in left_out else copy_index(image, photos[0], photos[others])
    cosines = [None if p in left_out else float(c) for p, c in enumerate(to_image)]
    return Likenesses(conditioning, held_out, cosines, copied)


def diversity(embeddings: Tensor) -> list[float | None]:
    """Per image, the mean distance to the others of the same task; None for a single image.

    Args:
        embeddings: All n images of one task, float32 [n, D].
    """
    alone = len(embeddings) < 2
    return [None] * len(embeddings) if alone else mean_distances(embeddings).tolist()


def background(image: Image.Image, task: Task) -> float | None:
    """How much of the reference's background the image repeats: 1 − mean |difference|, in [0, 1].

    Over the pixels that the mask leaves out, with the image at the reference's size; None
    without a mask, or where the subject fills it.
    """
    if task.reference_mask is None:
        return None
    outside = np.asarray(task.reference_mask) < 128
    if not outside.any():
        return None
    resized = image.resize(task.reference.size, Image.Resampling.BICUBIC)
    difference = np.abs(np.asarray(resized, np.float64) - np.asarray(task.reference, np.float64))
    return 1 - float(difference[outside].mean()) / 255


def fingerprint(image: Image.Image) -> str:
    """The same for equal images, whatever object or file holds them."""
    return hashlib.blake2b(image.tobytes(), key=repr(image.size).encode()).hexdigest()


def _photos(tasks: Sequence[Task]) -> list[Photos]:
    """The photos of each task's subject; an object that tasks share is fingerprinted once."""
    shown = {id(photo): photo for task in tasks for photo in task.photos}
    keys = {key: fingerprint(photo) for key, photo in shown.items()}
    return [[(keys[id(photo)], photo) for photo in task.photos] for task in tasks]


def _find(image: Image.Image, photos: Photos, task: Task) -> set[int]:
    """The image's indices among the photos."""
    itself = fingerprint(image)
    indices = {index for index, (key, _) in enumerate(photos) if key == itself}
    if not indices:
        raise ValueError(f"an image that should be a photo of {task.subject!r} is none of them")
    return indices


def _values(
    reward: Reward, images: Sequence[Image.Image], tasks: Sequence[Task]
) -> list[float | None]:
    values, valid = reward.score(images, tasks)
    scored = zip(values.tolist(), valid.tolist(), strict=True)
    return [value if known else None for value, known in scored]
