"""Runs and studies, read from the disk as plain records; nothing is changed there."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from likewise.config import Study, load_study
from likewise.records import RunDirectory
from likewise.records.run_directory import RECIPE
from likewise.report.shapes import Attribution, Results, misfit

STUDY = "study.yaml"
SCORES = "scores.parquet"
DRAWN = {"file", "task", "prompt", "subject", "kind"}  # columns of scores.parquet
NEEDED = {"aims", "arms", "base", "baseline", "metrics", "missing"}  # of results.json


@dataclass(frozen=True)
class Arm:
    """Runs of one recipe that differ by seed; in a report about runs, one run.

    Attributes:
        seeds: One per run.
    """

    name: str
    label: str
    runs: Sequence[RunDirectory]
    seeds: Sequence[int]

    @cached_property
    def metrics(self) -> list[list[dict[str, Any]]]:
        """Rows of each run."""
        return [run.read_metrics() for run in self.runs]

    @cached_property
    def rewards(self) -> pa.Table:
        """Reward tables of all runs, joined."""
        return pa.concat_tables(
            [run.read_rewards() for run in self.runs], promote_options="permissive"
        )

    def sides(self) -> dict[str, str]:
        """``prompt`` and ``identity`` → the first reward of that side."""
        found: dict[str, str] = {}
        for name, reward in self.runs[0].recipe.credited.items():
            found.setdefault(reward.side, name)
        return found


@dataclass(frozen=True)
class Drawn:
    """A system's images and their scores.

    Attributes:
        scores: One row per image, with its `file` below `folder`.
    """

    folder: Path
    scores: pa.Table


@dataclass(frozen=True)
class StudyFolder:
    """What a study left on the disk.

    Attributes:
        results, attribution: Content of ``results.json`` and ``attribution.json``; None where the
            file is missing.
        arms: Those with a run, in the study's order.
    """

    folder: Path
    study: Study
    results: dict[str, Any] | None
    attribution: dict[str, Any] | None
    arms: Sequence[Arm]

    @property
    def baseline(self) -> str:
        return self.study.baseline

    @property
    def candidate(self) -> str:
        """The arm that the study is about: its first that is not the baseline."""
        return next((name for name in self.study.arms if name != self.baseline), self.baseline)

    def drawn(self, arm: str | None, seed: int | None = None) -> Drawn | None:
        """Images of an arm's run, or of the untrained model (None); None if not evaluated yet."""
        if arm is None:
            return read_drawn(self.folder / "base" / "model")
        run = self.folder / "runs" / arm / f"seed-{seed}"
        return read_drawn(run / "evaluation" / "study" / "after")


def read_paths(paths: Sequence[Path]) -> StudyFolder | list[Arm]:
    """A study, or runs as arms of one run each.

    Raises:
        ValueError: a path is neither, or a study is not alone (the message says what is expected).
    """
    for path in paths:
        if not (path / STUDY).is_file() and not (path / RECIPE).is_file():
            what = "holds neither" if path.is_dir() else "is not a folder: expected one with"
            raise ValueError(
                f"{path} {what} {RECIPE} (a run, as `likewise train` writes it) "
                f"{'nor' if path.is_dir() else 'or'} {STUDY} (a study, as `likewise compare` "
                "writes it)"
            )
    if any((path / STUDY).is_file() for path in paths):
        if len(paths) > 1:
            raise ValueError("a report is about one study, or about any number of runs: not both")
        return read_study(paths[0])
    labels = _labels(paths)
    runs = [RunDirectory.open(path) for path in paths]
    return [
        Arm(label, label, [run], [run.recipe.seed]) for label, run in zip(labels, runs, strict=True)
    ]


def read_study(folder: Path) -> StudyFolder:
    """The study in `folder`.

    Raises:
        ValueError: a file is damaged (the message names it).
    """
    study = load_study(folder / STUDY)
    arms = []
    for name, arm in study.arms.items():
        found = {seed: folder / "runs" / name / f"seed-{seed}" for seed in study.seeds}
        seeds = [seed for seed, path in found.items() if (path / RECIPE).is_file()]
        runs = [RunDirectory.open(found[seed]) for seed in seeds]
        if runs:
            arms.append(Arm(name, arm.label or name, runs, seeds))
    results = _read_json(folder / "results.json")
    if results is not None and (lacking := NEEDED - results.keys()):
        raise ValueError(
            f"{folder / 'results.json'} lacks {', '.join(sorted(lacking))}: likewise compare "
            "writes it again"
        )
    _refuse_misfit(folder / "results.json", results, Results)
    attribution = _attribution(folder)
    return StudyFolder(folder, study, results, attribution, arms)


def read_drawn(folder: Path) -> Drawn | None:
    """A system's folder of an evaluation; None if it has no scores yet.

    Raises:
        ValueError: its table is damaged.
    """
    if not (folder / SCORES).is_file():
        return None
    try:
        scores = pq.read_table(folder / SCORES)
        lacking = DRAWN - set(scores.column_names)
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{folder / SCORES} is damaged: {error}; evaluate again") from error
    if lacking:
        raise ValueError(f"{folder / SCORES} lacks {', '.join(sorted(lacking))}: evaluate again")
    return Drawn(folder, scores)


def read_settings(evaluation: Path) -> Mapping[str, Any]:
    """``settings.json`` of an evaluation; empty if there is none."""
    return _read_json(evaluation / "settings.json") or {}


def read_attribution(run: RunDirectory) -> dict[str, Any] | None:
    """What `likewise attribute` wrote into a run."""
    return _attribution(run.path)


def _attribution(folder: Path) -> dict[str, Any] | None:
    found = _read_json(folder / "attribution.json")
    _refuse_misfit(folder / "attribution.json", found, Attribution)
    return found


def _refuse_misfit(
    file: Path, content: dict[str, Any] | None, shape: type[Results] | type[Attribution]
) -> None:
    problem = "" if content is None else misfit(content, shape)
    if problem:
        raise ValueError(f"{file} is damaged: {problem}; write it again or remove it")


def _read_json(file: Path) -> dict[str, Any] | None:
    if not file.is_file():
        return None
    try:
        text = file.read_text(encoding="utf-8")
        found = json.loads(text, parse_float=_finite, parse_constant=lambda _: None)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{file} is damaged: {error}; write it again or remove it") from error
    if not isinstance(found, dict):
        raise ValueError(f"{file} is damaged: not a JSON object; write it again or remove it")
    return found


def _finite(text: str) -> float | None:
    """None for what no float can hold, as 1e400."""
    value = float(text)
    return value if math.isfinite(value) else None


def _labels(paths: Sequence[Path]) -> list[str]:
    """The shortest ends of the paths that tell them apart."""
    parts = [path.resolve().parts for path in paths]
    longest = max(map(len, parts))
    for length in range(1, longest + 1):
        ends = ["/".join(part[-length:]) for part in parts]
        if len(set(ends)) == len(ends):
            return ends
    raise ValueError("a run is named twice: name each once")
