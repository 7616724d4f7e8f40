"""Floors that a hinge gate measures: what the untrained model reaches, by kind of task.

The samples of iteration 1 are drawn before any update, so the gate's mean reward over them is the
untrained model's. It is taken there, once, and travels in every checkpoint: a resumed run reads it,
and nothing measures it from a model that has learned.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean

import torch
from torch import Tensor

from likewise.algorithm.credit import complete
from likewise.algorithm.shaping import weighted_sum
from likewise.config.credit_rules import HingeGate
from likewise.config.recipe import Recipe
from likewise.rollout.scoring import Scores
from likewise.trainer.checks import TrainingError
from likewise.trainer.facts import Facts

FLOORS = "floors.json"  # in a checkpoint


class Floors:
    """Of a run; without any unless its rule is a hinge gate whose floor is measured.

    Attributes:
        by_kind: Kind of task → mean raw reward of the gate; empty until iteration 1 has been drawn.
    """

    def __init__(self, recipe: Recipe) -> None:
        rule = recipe.credit.shaping
        self.recipe = recipe
        self.gate = rule.gate if isinstance(rule, HingeGate) and rule.floor == "measured" else None
        self.by_kind: dict[str, float] = {}

    @property
    def rewards(self) -> dict[str, float]:
        """Names and weights of what the gate is made of."""
        credited = self.recipe.credited.items()
        return {
            name: one.weight for name, one in credited if one.side == self.gate and one.weight > 0
        }

    def of(self, iteration: int, tasks: Sequence[Facts], scores: Scores) -> Tensor | None:
        """The floor of every sample of an iteration, float32 [B]; None without any.

        A kind of task that iteration 1 did not have takes the mean over the kinds that it had.

        Raises:
            TrainingError: no sample of iteration 1 has a gate reward.
        """
        if self.gate is None:
            return None
        kinds = [task.kind for task in tasks for _ in range(self.recipe.rollout.group_size)]
        if iteration == 1:
            self.by_kind = self._measured(kinds, scores)
        others = fmean(self.by_kind.values())
        return torch.tensor([self.by_kind.get(kind, others) for kind in kinds])

    def write(self, folder: Path) -> None:
        """Add them to a checkpoint that is being written."""
        if self.gate is not None:
            text = json.dumps({"rewards": self.rewards, "floors": self.by_kind}, indent=1)
            (folder / FLOORS).write_text(text + "\n", encoding="utf-8")

    def read(self, folder: Path) -> None:
        """Take them from a checkpoint.

        Raises:
            ValueError: it has none, or those of other rewards.
        """
        if self.gate is None:
            return
        file = folder / FLOORS
        content = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
        if content.get("rewards") != self.rewards:
            raise ValueError(
                f"{folder} has no {FLOORS} of {', '.join(self.rewards)} with these weights: "
                "credit.shaping.floor is measured on the untrained model, in iteration 1. Give a "
                "number, or start a new run"
            )
        self.by_kind = dict(content["floors"])

    def _measured(self, kinds: Sequence[str], scores: Scores) -> dict[str, float]:
        names, own = list(self.recipe.rewards), self.rewards
        k = [names.index(name) for name in own]
        known = complete(scores.values[k], scores.valid[k]).tolist()
        gate = weighted_sum(scores.values[k], list(own.values())).tolist()
        found: dict[str, list[float]] = {}
        for kind, value, is_known in zip(kinds, gate, known, strict=True):
            if is_known:
                found.setdefault(kind, []).append(value)
        if not found:
            reasons = "; ".join(f"{name}: {why}" for name, why in scores.problems.items())
            raise TrainingError(
                f"credit.shaping.floor is measured in iteration 1, all of whose samples lack "
                f"{' or '.join(own)}: repair it and start again, or give a number. {reasons}"
            )
        return {kind: fmean(values) for kind, values in found.items()}
