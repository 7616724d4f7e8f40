"""The units of a study: what there is to do, what is done, and by which commands."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from likewise.config import Recipe, Study, to_yaml
from likewise.config.code import OPTION, imported_by, sent_by
from likewise.config.evaluation_settings import EvaluationSettings
from likewise.config.study import study_yaml, unit_overrides, unit_recipe
from likewise.records import CheckpointStore, RunDirectory
from likewise.records.atomic import write_atomically
from likewise.records.fresh import holds_nothing_learned
from likewise.records.run_directory import RECIPE

State = Literal["finished", "started", "new"]
BASE = "base"  # the folder of the untrained model
SCORES, SUMMARY, SETTINGS = "scores.parquet", "summary.json", "settings.json"


@dataclass(frozen=True)
class Unit:
    """What one process does: train a run, evaluate it, or evaluate the model before training.

    Attributes:
        arm, seed: None where the unit is about the untrained model.
    """

    kind: Literal["train", "evaluate"]
    arm: str | None = None
    seed: int | None = None

    def __str__(self) -> str:
        about = BASE if self.arm is None else f"{self.arm} seed {self.seed}"
        return f"{self.kind} {about}"

    @property
    def needs(self) -> Unit | None:
        """The unit that must be finished before this one can start."""
        if self.kind == "train" or self.arm is None:
            return None
        return Unit("train", self.arm, self.seed)


BASE_UNIT = Unit("evaluate")


class Plan:
    """A study in its folder.

    Attributes:
        units: All of them, seed by seed, so that a study cut short compares whole seeds.
    """

    def __init__(self, study: Study, folder: Path) -> None:
        self.study, self.folder = study, folder
        self.units = [BASE_UNIT]
        for seed in study.seeds:
            for arm in study.arms:
                self.units += [Unit("train", arm, seed), Unit("evaluate", arm, seed)]

    def run(self, unit: Unit) -> Path:
        """The run directory of a unit that is about a run."""
        assert unit.arm is not None
        return self.folder / "runs" / unit.arm / f"seed-{unit.seed}"

    def evaluation(self, unit: Unit) -> Path:
        """The evaluation folder of such a unit, or of the untrained model."""
        return self.folder / BASE if unit.arm is None else self.run(unit) / "evaluation" / "study"

    def recipe(self, unit: Unit) -> Recipe:
        """Recipe of its run; of the untrained model the baseline's, as all arms draw alike."""
        study = self.study
        if unit.arm is None or unit.seed is None:
            return unit_recipe(study, study.baseline, study.seeds[0])
        return unit_recipe(study, unit.arm, unit.seed)

    def log(self, unit: Unit) -> Path:
        """What the unit's processes print."""
        return self.folder / "logs" / f"{str(unit).replace(' ', '-')}.txt"

    def scores(self, unit: Unit) -> Path:
        """The table that an evaluation ends with."""
        return self.evaluation(unit) / ("model" if unit.arm is None else "after") / SCORES

    def state(self, unit: Unit) -> State:
        """As found on disk: a run counts by its newest intact checkpoint."""
        if unit.kind == "evaluate":
            done = (self.evaluation(unit) / SUMMARY).is_file()
            if done and self.scores(unit).is_file():
                return "finished"
            return "started" if (self.evaluation(unit) / SETTINGS).is_file() else "new"
        path = self.run(unit)
        if not (path / RECIPE).is_file():
            return "new"
        run = RunDirectory.open(path)
        newest = CheckpointStore(run.checkpoints, 1).newest()
        done = newest is not None and newest.iteration >= run.recipe.run.iterations
        return "finished" if done else "started"

    def words(self, unit: Unit, afresh: bool = False) -> list[str]:
        """The command that does the unit, or goes on with it, after ``likewise``.

        Args:
            afresh: As if nothing had been done yet.
        """
        if unit.kind == "train":
            return self._train_words(unit, afresh)
        settings = evaluate_options(self.study.evaluation)
        return ["evaluate", *self._target(unit), *settings, "--out", str(self.evaluation(unit))]

    def prepare(self, units: Sequence[Unit]) -> None:
        """Write the study, and clear away what a kill has left: runs without recipe, and notes."""
        self.folder.mkdir(parents=True, exist_ok=True)
        logs = self.folder / "logs"
        logs.mkdir(exist_ok=True)
        for note in logs.glob(".launch-*"):
            note.unlink()
        write_atomically(self.folder / "study.yaml", study_yaml(self.study, self.folder))
        for unit in units:
            if unit.kind == "train" and is_unstarted(self.run(unit)):
                shutil.rmtree(self.run(unit))
        if BASE_UNIT in units:
            self._base_recipe.parent.mkdir(exist_ok=True)
            write_atomically(self._base_recipe, to_yaml(self.recipe(BASE_UNIT)))

    def _train_words(self, unit: Unit, afresh: bool) -> list[str]:
        assert unit.arm is not None and unit.seed is not None
        path = str(self.run(unit))
        if not afresh and self.state(unit) == "started":
            return ["train", "--resume", path]
        recipe = self.study.arms[unit.arm].recipe
        overrides = unit_overrides(self.study, unit.arm, unit.seed)
        return ["train", recipe, "--run-dir", path, *overrides]

    def _target(self, unit: Unit) -> list[str]:
        if unit.arm is not None:
            return [str(self.run(unit)), "--only", "after", *self._trust(unit)]
        return [self.recipe(unit).policy.model, "--recipe", str(self._base_recipe)]

    def _trust(self, unit: Unit) -> list[str]:
        """A run's recipe is the study's own (`check_folder` saw to it), and so is its code."""
        recipe = self.recipe(unit)
        return [OPTION] if imported_by(recipe) or sent_by(recipe) else []

    @property
    def _base_recipe(self) -> Path:
        return self.folder / BASE / "drawn-by.yaml"  # a recipe.yaml would make it a run


def is_unstarted(path: Path) -> bool:
    """Whether `path` holds no more than what comes into a run directory before its recipe."""
    return not (path / RECIPE).is_file() and holds_nothing_learned(path)


def evaluate_options(settings: EvaluationSettings) -> list[str]:
    """Settings as options of `likewise evaluate`."""
    words: list[str] = []
    for name in EvaluationSettings.model_fields:
        value = getattr(settings, name)
        if name == "metrics":
            for metric, encoder in (value or {}).items():
                words += ["--metric", f"{metric}={encoder}"]
        elif value is not None:
            words += [f"--{name.replace('_', '-')}", str(value)]
    return words
