"""Before and after training: pairing, intervals, the picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import a_task, make_policy

from likewise.evaluation.before_after import compare, picture, subject_interval
from likewise.rollout.sampler import Sampler
from likewise.types import Task


class Brightness:
    """Mean grey value; nothing to say about tasks whose prompt names snow."""

    def score(
        self, images: Sequence[Image.Image], tasks: Sequence[Task]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        values = [float(np.asarray(image, dtype=np.float32).mean()) for image in images]
        known = ["snow" not in task.prompt for task in tasks]
        return torch.tensor(values), torch.tensor(known)


def test_an_interval_by_hand() -> None:
    """Every subject changed by the same amount: there is nothing to be unsure about."""
    differences = np.array([0.5, 0.5, 0.5, 0.5])
    assert subject_interval(differences, ["a", "a", "b", "c"]) == (0.5, 0.5)


def test_an_interval_knows_that_tasks_of_one_subject_are_not_independent() -> None:
    rng = np.random.default_rng(0)
    effects = rng.normal(size=10)
    subjects = [f"s{i}" for i in range(10) for _ in range(20)]
    differences = np.repeat(effects, 20)
    low, high = subject_interval(differences, subjects)
    alone = subject_interval(differences, [str(i) for i in range(200)])
    assert low is not None and high is not None and None not in alone
    assert low < effects.mean() < high
    assert high - low > 3 * (alone[1] - alone[0])  # type: ignore[operator]
    wide = 2 * 1.96 * effects.std() / np.sqrt(10)  # normal approximation
    assert high - low == pytest.approx(wide, rel=0.25)


def test_one_subject_has_no_interval() -> None:
    assert subject_interval(np.array([1.0, 2.0]), ["a", "a"]) == (None, None)


def test_a_fresh_adapter_changes_nothing_and_a_moved_one_does() -> None:
    policy = make_policy()
    policy.add_lora(2, 4.0, "attention")
    prompts = ["a red duck", "a blue duck", "a teapot in the snow"]
    tasks = [replace(a_task(prompt), id=str(i)) for i, prompt in enumerate(prompts)]
    sampler = Sampler(policy.sigmas(3, None), "flow-sde", 0.7)
    same = compare(policy, sampler, tasks, {"bright": Brightness()}, 2)
    measure = same.measures()["bright"]
    assert (measure.before, measure.tasks) == (measure.after, 2)
    with torch.no_grad():
        for parameter in policy.trainable_parameters():
            parameter.normal_(std=1.0, generator=torch.Generator().manual_seed(0))
    moved = compare(policy, sampler, tasks, {"bright": Brightness()}, 2)
    assert [np.asarray(one).tolist() for one in moved.before] == [
        np.asarray(one).tolist() for one in same.before
    ]
    assert moved.measures()["bright"].before != moved.measures()["bright"].after
    assert moved.measures("no such kind")["bright"].before is None
    sheet = picture(moved, shown=3, columns=2)
    blocks, rows = 2, 3
    assert sheet.height == blocks * rows * (128 + 14 + 4)
