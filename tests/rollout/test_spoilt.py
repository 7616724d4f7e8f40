"""Images that are not finite, or of one colour, are missing for every reward, and counted."""

from __future__ import annotations

import time
from collections.abc import Sequence

import pytest
import torch
from PIL import Image
from rolling import some_tasks
from torch import Tensor

from likewise.rollout.groups import compare_groups
from likewise.rollout.scoring import Scores, join_scores
from likewise.rollout.spoilt import AskedUsable, find_spoilt
from likewise.types import Task


def image(seed: int) -> Tensor:
    return torch.rand(3, 4, 5, generator=torch.Generator().manual_seed(seed))


def flat(level: float = 0.5) -> Tensor:
    return torch.full((3, 4, 5), level)


def broken(value: float) -> Tensor:
    return image(9).index_fill(1, torch.tensor([2]), value)


class Red:
    """Implements Reward and notes what it was asked about."""

    def __init__(self) -> None:
        self.asked: list[int] = []

    def score(self, images: Sequence[Image.Image], tasks: Sequence[Task]) -> tuple[Tensor, Tensor]:
        assert len(images) == len(tasks)
        self.asked.append(len(images))
        values = torch.tensor([float(one.getpixel((0, 0))[0]) for one in images])  # type: ignore[index]
        return values, torch.ones(len(images), dtype=torch.bool)


class Apart:
    """Implements GroupReward."""

    def embed(self, images: Sequence[Image.Image]) -> Tensor:
        return torch.tensor([[float(one.getpixel((0, 0))[0])] for one in images])  # type: ignore[index]

    def compare(self, group: Tensor) -> Tensor:
        return (group - group.mean(0)).abs().flatten()


def ask(decoded: list[Tensor]) -> tuple[Scores, Red]:
    red = Red()
    tasks = some_tasks(len(decoded))
    asked = AskedUsable({"red": red, "apart": Apart()}, decoded, tasks)
    return asked.scores(time.monotonic()), red


def test_what_is_spoilt() -> None:
    almost = flat().index_fill(2, torch.tensor([0]), 0.501)  # the same once it has 8 bits
    coloured = torch.stack([flat()[0] * level for level in (0, 1, 2)])
    images = [image(0), flat(), flat(0), almost, coloured, broken(torch.nan), broken(torch.inf)]
    assert find_spoilt(images) == ["", *["flat"] * 4, *["not_finite"] * 2]
    one_pixel = flat()
    one_pixel[0, 0, 0] = 0
    assert find_spoilt([one_pixel]) == [""]


def test_spoilt_images_are_missing_and_nobody_is_asked() -> None:
    decoded = [image(0), flat(), image(1), broken(torch.nan)]
    found, red = ask(decoded)
    assert red.asked == [2] and found.failures == {}
    assert found.spoilt == {"flat": 1, "not_finite": 1}
    assert found.problems == {"images": "1 are flat, 1 are not finite"}
    assert found.valid[0].tolist() == [True, False, True, False]
    alone, _ = ask([image(0), image(1)])
    assert found.values[0, [0, 2]].equal(alone.values[0])
    assert found.embeddings["apart"][[0, 2]].equal(alone.embeddings["apart"])
    assert found.embeddings["apart"][[1, 3]].isnan().all()
    compared = compare_groups({"red": red, "apart": Apart()}, found, 4)
    assert compared.valid[1].tolist() == [True, False, True, False]


def test_images_that_are_fine_are_scored_as_ever() -> None:
    found, red = ask([image(n) for n in range(3)])
    assert red.asked == [3] and found.spoilt == {} and found.problems == {}
    assert found.valid[0].all()


@pytest.mark.parametrize("count", [1, 3])
def test_all_spoilt_is_no_error(count: int) -> None:
    found, red = ask([flat()] * count)
    assert red.asked == [] and found.failures == {} and found.spoilt == {"flat": count}
    assert found.values.shape == (2, count) and not found.valid.any()
    other, _ = ask([image(1)])
    joined = join_scores([(range(count), found), ([count], other), ([count + 1], ask([flat()])[0])])
    assert joined.spoilt == {"flat": count + 1}
    assert joined.valid[0].tolist() == [False] * count + [True, False]
