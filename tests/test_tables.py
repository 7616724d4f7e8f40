"""What a recipe may name has a function, and the other way round: recipes never import torch."""

from __future__ import annotations

import pytest

from likewise.algorithm.rules import RULES
from likewise.algorithm.timeweights import TIME_WEIGHTS
from likewise.config.credit import Credit
from likewise.config.problems import kinds

TABLES = {
    "credit.shaping": (RULES, kinds(Credit.model_fields["shaping"].annotation)),
    "credit.time_weights": (TIME_WEIGHTS, kinds(Credit.model_fields["time_weights"].annotation)),
}


@pytest.mark.parametrize("field", TABLES)
def test_every_name_has_its_function_and_only_those(field: str) -> None:
    table, names = TABLES[field]
    assert sorted(table) == sorted(names)
    assert len(names) > 1
