"""Time weights that are measured again while a run goes on, from the samples that it draws anyway.

Every `credit.time_weights.refresh` iterations the shares of `measured` are replaced by what groups
of these iterations have shown. An iteration's own samples never decide its own weights, and of what
was measured before nothing is kept: the policy has changed since. A refresh is skipped, and the
iterations before it count for the next one, if some reward has not differed anywhere.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import cast

import torch

from likewise.algorithm.shares import step_shares, variances_in_groups
from likewise.config.credit_rules import Measured, TimeWeights
from likewise.config.recipe import Recipe
from likewise.rollout.scoring import Scores
from likewise.rollout.steps import StepPlan

TIMING = "timing.json"  # in a checkpoint


class Timing:
    """The time weights of a run.

    Attributes:
        rule: The recipe's section, with the shares that count now.
        seen: Of each iteration since the last refresh: its random steps, and the variance of each
            reward inside groups (NaN where unknown).
    """

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self.rule: TimeWeights = recipe.credit.time_weights
        self.every = self.rule.refresh if isinstance(self.rule, Measured) else None
        self.seen: list[tuple[tuple[int, ...], list[float]]] = []

    def add(self, iteration: int, plan: StepPlan, scores: Scores) -> None:
        """Count an iteration's samples, and measure anew where that is due after it."""
        if self.every is None:
            return
        size = self.recipe.rollout.group_size
        variances = variances_in_groups(scores.values, scores.valid, size)
        self.seen.append((plan.stochastic, variances.tolist()))
        if iteration % self.every == 0:
            self._refresh()

    def write(self, folder: Path) -> None:
        """Add it to a checkpoint that is being written."""
        if self.every is None:
            return
        rule = cast(Measured, self.rule)
        content = {"prompt": rule.prompt, "identity": rule.identity, "seen": self.seen}
        (folder / TIMING).write_text(json.dumps(content) + "\n", encoding="utf-8")

    def read(self, folder: Path) -> None:
        """Take it from a checkpoint.

        Raises:
            ValueError: it has none.
        """
        if self.every is None:
            return
        file = folder / TIMING
        if not file.is_file():
            raise ValueError(
                f"{folder} has no {TIMING}, which credit.time_weights.refresh goes on from: leave "
                "that out, or start a new run"
            )
        content = json.loads(file.read_text(encoding="utf-8"))
        self._use(content["prompt"], content["identity"])
        self.seen = [(tuple(window), variances) for window, variances in content["seen"]]

    def _refresh(self) -> None:
        windows = [window for window, _ in self.seen]
        variances = torch.tensor([found for _, found in self.seen], dtype=torch.float64).T
        shares = step_shares(windows, variances, self.recipe.rollout.num_steps)
        sides = [reward.side for reward in self.recipe.rewards.values()]
        profiles = {}
        for side in ("prompt", "identity"):
            own = shares[[one == side for one in sides]]
            if not len(own):  # then the other side has all weight anyway
                profiles[side] = list(getattr(self.rule, side))
            elif not own.any(1).all():
                return
            else:
                profiles[side] = own.mean(0).tolist()
        self._use(**profiles)
        self.seen = []

    def _use(self, prompt: list[float], identity: list[float]) -> None:
        self.rule = self.rule.model_copy(update={"prompt": prompt, "identity": identity})
