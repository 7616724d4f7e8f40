"""Rewards that compare the images of a group, however the group was drawn."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from PIL import Image
from rolling import some_tasks
from torch import Tensor

from likewise.rollout.groups import compare_groups
from likewise.rollout.scoring import (
    Asked,
    Scores,
    beside_evaluators,
    join_scores,
    score_images,
    single_rewards,
)


class Oddity:
    """How far an image's red is from the mean of its group's; fails where it is told to."""

    def __init__(self, fails: Sequence[int] = (), wrong: bool = False) -> None:
        self.fails, self.wrong = fails, wrong

    def embed(self, images: Sequence[Image.Image]) -> Tensor:
        reds = [float(np.asarray(image)[0, 0, 0]) for image in images]
        if set(self.fails) & {int(red) for red in reds}:
            raise TimeoutError("no embedding")
        return torch.tensor(reds)[:, None].expand(-1, 3)

    def compare(self, group: Tensor) -> Tensor:
        return torch.zeros(1) if self.wrong else (group[:, 0] - group[:, 0].mean()).abs()


class Red:
    def score(self, images: Sequence[Image.Image], tasks: object) -> tuple[Tensor, Tensor]:
        values = torch.tensor([float(np.asarray(image)[0, 0, 0]) for image in images])
        return values, torch.ones(len(values), dtype=torch.bool)


REDS = [0, 10, 50, 7, 7, 1]  # two groups of three
EXPECTED = [20, 10, 30, 2, 2, 4]


def drawn(parts: Sequence[Sequence[int]], oddity: Oddity) -> Scores:
    """The six images, scored in parts, put together and compared."""
    rewards = {"red": Red(), "odd": oddity}
    shares = []
    for indices in parts:
        images = [Image.new("RGB", (2, 2), (REDS[index], 0, 0)) for index in indices]
        shares.append((indices, Asked(rewards, images, some_tasks(1) * len(indices)).scores(0.0)))
    return compare_groups(rewards, join_scores(shares), group_size=3)


@pytest.mark.parametrize(
    "parts", [[range(6)], [[0, 1], [2, 3, 4, 5]], [[5], [2, 0], [], [1, 3, 4]]]
)
def test_groups_are_compared_whole_however_they_were_drawn(parts: list[list[int]]) -> None:
    scores = drawn(parts, Oddity())
    assert scores.values[0].tolist() == REDS
    assert scores.values[1].tolist() == EXPECTED
    assert scores.valid.all() and not scores.failures


def test_what_could_not_be_embedded_is_missing_alone() -> None:
    scores = drawn([[0], [1, 2], [3, 4], [5]], Oddity(fails=[0, 7]))
    assert scores.valid[1].tolist() == [False, True, True, False, False, False]
    assert scores.values[1].tolist() == [0, 20, 20, 0, 0, 0]  # image 5 is alone in its group
    assert scores.failures == {"odd": "TimeoutError: no embedding"}
    assert scores.valid[0].all()


def test_where_nothing_could_be_embedded_all_are_missing() -> None:
    scores = drawn([range(6)], Oddity(fails=REDS))
    assert not scores.valid[1].any() and scores.valid[0].all()
    assert scores.failures == {"odd": "TimeoutError: no embedding"}


def test_a_comparison_of_another_shape_is_a_failure() -> None:
    scores = drawn([range(6)], Oddity(wrong=True))
    assert not scores.valid[1].any()
    assert scores.failures["odd"].startswith("ValueError: compare gave [1] for 3 images")


def test_embeddings_of_another_shape_are_a_failure() -> None:
    class Short(Oddity):
        def embed(self, images: Sequence[Image.Image]) -> Tensor:
            return super().embed(images)[:-1]

    scores = drawn([[0, 1, 2], [3, 4, 5]], Short())
    assert not scores.valid[1].any() and scores.valid[0].all()
    assert scores.failures["odd"] == "ValueError: embeddings are [2, 3] for 3 images"


def test_without_groups_a_group_reward_is_missing() -> None:
    images = [Image.new("RGB", (2, 2), (red, 0, 0)) for red in REDS]
    scores = score_images({"odd": Oddity(), "red": Red()}, images, some_tasks(1) * 6)
    assert scores.valid.tolist() == [[False] * 6, [True] * 6]


def test_evaluations_of_single_images_leave_group_rewards_out() -> None:
    rewards = {"odd": Oddity(), "red": Red()}
    assert list(single_rewards(rewards)) == ["red"]
    assert list(beside_evaluators(rewards, {"eye": Red()})) == ["red", "evaluator/eye"]
