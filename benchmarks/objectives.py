"""Images and seconds that each arm of a study needs to reach what its baseline ends with.

    likewise compare stickers-objectives --out runs/stickers-objectives
    python benchmarks/objectives.py runs/stickers-objectives

Reads the evaluations that runs made while they trained (`run.evaluation`), which must be of the
same tasks in all of them. The target is the mean over seeds of the baseline's last value. An arm
reaches it at the first evaluation that is at least as high. Seconds are those of training, without
evaluations, on the machine that ran the study, where units ran side by side. Medians over seeds; a
run that never gets there counts as needing more than any other.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, median

from likewise.config import Study, load_study
from likewise.config.study import unit_recipe
from likewise.records import RunDirectory
from likewise.trainer.metrics import evaluation_means

NEVER = math.inf


@dataclass(frozen=True)
class Point:
    """An evaluation: after how many iterations, images and seconds of training, and its values."""

    iteration: int
    images: int
    seconds: float
    values: Mapping[str, float]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="of a study")
    options = parser.parse_args(arguments)
    study = load_study(options.folder / "study.yaml")
    curves = {
        arm: [
            curve(options.folder / "runs" / arm / f"seed-{seed}", images_per_iteration(study, arm))
            for seed in study.seeds
        ]
        for arm in study.arms
    }
    print(json.dumps(list(table(curves, study.baseline)), indent=1))


def images_per_iteration(study: Study, arm: str) -> int:
    """Of any of the arm's runs."""
    rollout = unit_recipe(study, arm, study.seeds[0]).rollout
    return rollout.tasks * rollout.group_size


def curve(folder: Path, images: int) -> list[Point]:
    """A run's evaluations by the held-out evaluators, the one before training included."""
    run = RunDirectory.open(folder)
    seconds = {
        row["iteration"]: row["seconds/total"] - row.get("seconds/evaluation", 0.0)
        for row in run.read_timings()
    }
    points = []
    for row in run.read_metrics():
        number, means = row["iteration"], evaluation_means(row)
        values = {name: one for name, one in means.items() if name.startswith("evaluator/")}
        if values:
            spent = sum(one for iteration, one in seconds.items() if iteration <= number)
            points.append(Point(number, number * images, spent, values))
    return points


def table(
    curves: Mapping[str, Sequence[Sequence[Point]]], baseline: str
) -> Iterator[dict[str, object]]:
    """A row for each arm and evaluator: means of first and last values, what reaching took."""
    for name in curves[baseline][0][0].values:
        target = fmean(run[-1].values[name] for run in curves[baseline])
        for arm, runs in curves.items():
            reached = [first_at_least(run, name, target) for run in runs]
            yield {
                "evaluator": name,
                "arm": arm,
                "before": round(fmean(run[0].values[name] for run in runs), 4),
                "after": round(fmean(run[-1].values[name] for run in runs), 4),
                "target": round(target, 4),
                "seeds that reach it": sum(point is not None for point in reached),
                "images": middle([point.images if point else NEVER for point in reached]),
                "seconds": middle([point.seconds if point else NEVER for point in reached]),
            }


def first_at_least(run: Sequence[Point], name: str, target: float) -> Point | None:
    """The first evaluation with so much; None: none has."""
    return next((point for point in run if point.values[name] >= target), None)


def middle(values: Sequence[float]) -> float | str:
    """The median; "never" where half of the runs or more do not get there."""
    found = median(values)
    return "never" if found == NEVER else round(found)


if __name__ == "__main__":
    main()
