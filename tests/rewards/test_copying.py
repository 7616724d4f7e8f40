"""Copy index and in-group diversity as rewards, on real encoders."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from tiny import a_task, photo

from likewise import assets
from likewise.algorithm.embeddings import copy_index, mean_distances
from likewise.protocols import GroupReward, Reward
from likewise.rewards.copy_index import CopyIndexReward
from likewise.rewards.dino import DinoReward
from likewise.rewards.in_group_diversity import InGroupDiversity


@pytest.fixture(scope="module")
def dino() -> DinoReward:
    return DinoReward(assets.path("nano-dinov2"))


REFERENCE, FIRST, SECOND = (photo(40, 30, seed) for seed in range(3))
TASK = replace(a_task(reference=REFERENCE), other_photos=(FIRST, SECOND))


def test_a_copy_of_the_reference_is_penalised_by_1(dino: DinoReward) -> None:
    for penalty, expected in ((True, -1), (False, 1)):
        values, valid = CopyIndexReward(dino, penalty).score([REFERENCE.copy()], [TASK])
        assert valid.tolist() == [True]
        assert values.tolist() == pytest.approx([expected], abs=1e-5)


def test_a_penalty_is_minus_the_copy_index(dino: DinoReward) -> None:
    images = [FIRST, photo(20, 20, 9), REFERENCE]
    other = replace(a_task(reference=FIRST), other_photos=(REFERENCE,))
    tasks = [TASK, other, TASK]
    values, valid = CopyIndexReward(dino).score(images, tasks)
    expected = []
    for image, task in zip(images, tasks, strict=True):
        rows = dino.embed([image, task.reference, *task.other_photos])
        expected.append(-float(copy_index(rows[0], rows[1], rows[2:]) or 0))
    assert valid.all() and values.dtype == torch.float32
    assert values.tolist() == pytest.approx(expected, abs=1e-5)
    assert values[0] > 0 > values[2]


def test_tasks_without_other_photos_are_missing(dino: DinoReward) -> None:
    _, valid = CopyIndexReward(dino).score([FIRST, FIRST], [TASK, a_task(reference=REFERENCE)])
    assert valid.tolist() == [True, False]


def test_photos_of_another_mode_are_refused(dino: DinoReward) -> None:
    task = replace(TASK, other_photos=(FIRST.convert("L"),))
    with pytest.raises(ValueError, match="photo 1 has mode 'L'"):
        CopyIndexReward(dino).score([FIRST], [task])


def test_diversity_compares_the_images_of_a_group(dino: DinoReward) -> None:
    reward = InGroupDiversity(dino)
    assert isinstance(reward, GroupReward) and not isinstance(reward, Reward)
    rows = reward.embed([REFERENCE, REFERENCE, FIRST])
    found = reward.compare(rows)
    assert found.dtype == torch.float32
    assert found.tolist() == pytest.approx(
        mean_distances(dino.embed([REFERENCE] * 2 + [FIRST])).tolist()
    )
    assert found[2] > found[0] > 0
    assert reward.compare(rows[:2]).tolist() == pytest.approx([0, 0], abs=1e-6)
