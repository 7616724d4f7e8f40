"""An identity reward that knows what was asked for, for `stickers-2-reasons.yaml`.

The identity reward of the recipe `stickers` compares with the reference, as on photos it has to, so
an image that is recoloured as asked loses by it. Here the same network compares with the world's
own drawing of the task instead. Only a world that can draw has such a reward: it tells what a real
one costs.

    identity: {kind: function, side: identity, target: "benchmarks.informed_identity:informed"}
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import replace

from PIL import Image
from torch import Tensor

from likewise import assets
from likewise.data.stickers.world import truth
from likewise.rewards.dino import DinoReward
from likewise.types import Task

SEED = 1  # of the drawing: the evaluators compare with another one


def informed(images: Sequence[Image.Image], tasks: Sequence[Task]) -> tuple[Tensor, Tensor]:
    """Cosine of each image and the subject as its task asks for it, float32 [B], and valid [B]."""
    answered = {task.id: _answered(task) for task in tasks}  # once for all images of a group
    return _dino().score(images, [answered[task.id] for task in tasks])


def _answered(task: Task) -> Task:
    """The task with the world's own drawing in place of its reference."""
    drawing = truth(task, SEED)
    return replace(task, reference=drawing.image, reference_mask=drawing.mask)


@functools.cache
def _dino() -> DinoReward:
    return DinoReward(assets.path("nano-dinov2"), segment=True)
