"""What rewards take, and where: copies by hand, and a real encoder against one without weights."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import pytest
from transformers import AutoModel

from likewise import assets
from likewise.api.planned_scorers import Scorers
from likewise.config import load_recipe
from likewise.footprint.fake import Weightless
from likewise.footprint.meta import weightless_encoder
from likewise.footprint.reward_models import copies_here, copies_there, encoding_peak


@pytest.mark.parametrize(
    ("device", "here", "there"),
    [
        (None, 1, None),
        ("cuda:+0", 1, None),
        ("cpu", 0, 4),
        ("cuda:+4", 0, 1),
        ("cuda:4", 0, 4),
        ("cuda:1", 4, None),  # with that process's own
    ],
)
def test_copies_of_four_processes(device: str | None, here: int, there: int | None) -> None:
    assert copies_here(device, 4) == here
    if there is not None and device is not None:
        assert copies_there(device, 4) == there


@pytest.mark.parametrize("name", ["nano-clip", "nano-dinov2"])
def test_encoding_takes_the_same_without_weights(name: str) -> None:
    real: Any = AutoModel.from_pretrained(assets.path(name)).eval()
    world = Weightless(like_cuda=False)
    with world:
        blank = weightless_encoder(name)
    found = [encoding_peak(blank, images, world) for images in (1, 3)]
    assert found == [encoding_peak(real, images, nullcontext()) for images in (1, 3)]
    assert found[0] and found[1] and found[1] > 2 * found[0]


def test_a_reward_elsewhere_is_not_in_the_way() -> None:
    beside = [f"rewards.{name}.device=cuda:+4" for name in ("identity", "prompt")]
    recipe = load_recipe("stickers", ["run.evaluation.every=0"])
    moved = load_recipe("stickers", ["run.evaluation.every=0", *beside])
    planned = Scorers(gpu=True)
    sizes, none = planned.sizes(recipe, 4)
    assert none == {} and planned.peak(recipe, 8, 4) > 0
    assert planned.sizes(moved, 4) == ({}, {"cuda:+4": sum(size or 0 for size in sizes.values())})
    assert planned.peak(moved, 8, 4) == 0
