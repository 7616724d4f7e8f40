"""Judges, with tiny untrained models of the real classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tiny_encoders import COUNT, IMAGES, TASKS

from likewise.rewards.judges import PromptJudge, label_groups
from likewise.types import Task


@pytest.fixture
def judge(encoders: Path) -> PromptJudge:
    return PromptJudge(encoders / "attributes")


def asking(constraints: dict[str, str]) -> Task:
    return replace(TASKS[0], constraints=constraints)


def test_the_prompt_evaluator_scores_satisfied_constraints(judge: PromptJudge) -> None:
    seen = judge.attributes(IMAGES[:1])[0]
    wrong = next(value for value in ("normal", "tiny") if value != seen["size"])
    asked: Sequence[dict[str, str]] = (seen, {**seen, "size": wrong}, {"size": wrong}, {})
    values, valid = judge.score(IMAGES[:1] * 4, [asking(constraints) for constraints in asked])
    assert values[:3].tolist() == [1.0, 0.5, 0.0]
    assert valid.tolist() == [True, True, True, False]


def test_the_prompt_evaluator_has_a_softmax_per_attribute(
    judge: PromptJudge,
) -> None:
    groups = judge.probabilities(IMAGES)
    for group in groups.values():
        torch.testing.assert_close(group.sum(1), torch.ones(COUNT))


def test_a_constraint_unknown_to_the_judge_is_named(judge: PromptJudge) -> None:
    with pytest.raises(ValueError, match=r"'task-0'.*scene 'moon'"):
        judge.score(IMAGES[:1], [asking({"scene": "moon"})])


@pytest.mark.parametrize("labels", [("beach", "snow"), ("scene:a", "size:b", "scene:c")])
def test_labels_without_clear_groups_are_refused(labels: Sequence[str]) -> None:
    with pytest.raises(ValueError, match="attribute:value"):
        label_groups(dict(enumerate(labels)))
