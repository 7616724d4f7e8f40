"""Evaluators, with tiny untrained models of the real classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tiny_encoders import COUNT, IMAGES, TASKS

from likewise.rewards.evaluators import PromptEvaluator, label_groups
from likewise.types import Task


@pytest.fixture
def evaluator(encoders: Path) -> PromptEvaluator:
    return PromptEvaluator(encoders / "attributes")


def asking(constraints: dict[str, str]) -> Task:
    return replace(TASKS[0], constraints=constraints)


def test_the_prompt_evaluator_scores_satisfied_constraints(evaluator: PromptEvaluator) -> None:
    seen = evaluator.attributes(IMAGES[:1])[0]
    wrong = next(value for value in ("normal", "tiny") if value != seen["size"])
    asked: Sequence[dict[str, str]] = (seen, {**seen, "size": wrong}, {"size": wrong}, {})
    values, valid = evaluator.score(IMAGES[:1] * 4, [asking(constraints) for constraints in asked])
    assert values[:3].tolist() == [1.0, 0.5, 0.0]
    assert valid.tolist() == [True, True, True, False]


def test_the_prompt_evaluator_has_a_softmax_per_attribute(
    evaluator: PromptEvaluator,
) -> None:
    groups = evaluator.probabilities(IMAGES)
    for group in groups.values():
        torch.testing.assert_close(group.sum(1), torch.ones(COUNT))


def test_a_constraint_unknown_to_the_evaluator_is_named(evaluator: PromptEvaluator) -> None:
    with pytest.raises(ValueError, match=r"'task-0'.*scene 'moon'"):
        evaluator.score(IMAGES[:1], [asking({"scene": "moon"})])


@pytest.mark.parametrize("labels", [("beach", "snow"), ("scene:a", "size:b", "scene:c")])
def test_labels_without_clear_groups_are_refused(labels: Sequence[str]) -> None:
    with pytest.raises(ValueError, match="attribute:value"):
        label_groups(dict(enumerate(labels)))
