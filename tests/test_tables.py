"""What recipes and studies may name is there, and has a name in them: they never import torch."""

from __future__ import annotations

from typing import get_args

import pytest

from likewise.algorithm.rules import RULES
from likewise.algorithm.timeweights import TIME_WEIGHTS
from likewise.algorithm.transitions import TRANSITIONS
from likewise.config.credit_rules import Credit
from likewise.config.problems import kinds
from likewise.config.recipe import Recipe
from likewise.config.rollout import Rollout
from likewise.config.study import StudyEvaluation
from likewise.evaluation.benchmark_protocols import PROTOCOLS
from likewise.trainer.objective_table import OBJECTIVES

TABLES = {
    "credit.shaping": (RULES, kinds(Credit.model_fields["shaping"].annotation)),
    "credit.time_weights": (TIME_WEIGHTS, kinds(Credit.model_fields["time_weights"].annotation)),
    "rollout.transition": (TRANSITIONS, get_args(Rollout.model_fields["transition"].annotation)),
    "objective": (OBJECTIVES, kinds(Recipe.model_fields["objective"].annotation)),
    "evaluation.protocol": (
        PROTOCOLS,
        get_args(StudyEvaluation.model_fields["protocol"].annotation),
    ),
}


@pytest.mark.parametrize("field", TABLES)
def test_every_name_has_its_function_and_only_those(field: str) -> None:
    table, names = TABLES[field]
    assert sorted(table) == sorted(names) != []
