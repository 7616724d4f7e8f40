"""Checks that what a study's folder holds already belongs to this study."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from likewise.config import load_recipe
from likewise.config.comparing import differences, leaves
from likewise.config.paths import with_absolute_paths
from likewise.records import RunDirectoryError
from likewise.records.run_directory import RECIPE
from likewise.study.units import SETTINGS, Plan, Unit, is_unstarted

# A run may have been made elsewhere, under another name.
FREE = ("name", "description", "run.device", "run.processes", "run.threads", "run.trackers")
# What a study asks of an evaluation → what settings.json calls it.
STORED = {name: name for name in ("benchmark", "protocol", "tasks", "images_per_prompt", "seed")}
STORED["steps"] = "num_steps"


def check_folder(plan: Plan) -> None:
    """Compare runs and evaluations that are there with the plan.

    Raises:
        RunDirectoryError: one is of something else; the message names it and every difference.
        RecipeError: a run's recipe cannot be read.
    """
    for unit in plan.units:
        if unit.kind == "train":
            _check_run(plan, unit)
        else:
            _check_evaluation(plan, unit)


def _check_run(plan: Plan, unit: Unit) -> None:
    path = plan.run(unit)
    if not (path / RECIPE).is_file():
        if path.exists() and not is_unstarted(path):
            raise RunDirectoryError(f"{path} is not a run directory: move it away")
        return
    planned = plan.recipe(unit)
    settled = [name for name, value in leaves(planned).items() if value == "auto"]
    found = differences(
        with_absolute_paths(load_recipe(path / RECIPE)),
        with_absolute_paths(planned),
        [*FREE, *settled],
    )
    if found:
        raise RunDirectoryError(
            f"{path} is another run than the study plans: {'; '.join(found)}: move it away, or "
            "give the study another --out"
        )


def _check_evaluation(plan: Plan, unit: Unit) -> None:
    file = plan.evaluation(unit) / SETTINGS
    if not file.is_file():
        return
    settings, planned = _read(file), plan.study.evaluation.model_dump()
    planned["benchmark"] = Path(planned["benchmark"]).resolve().name  # as evaluations call it
    found = [
        f"{name} is {settings[stored]!r}, not {planned[name]!r}"
        for name, stored in STORED.items()
        if planned[name] is not None and settings.get(stored, planned[name]) != planned[name]
    ]
    encoders = settings.get("encoders", {})
    found += [
        f"encoder of {metric} is {encoders.get(metric)!r}, not {encoder!r}"
        for metric, encoder in (planned["metrics"] or {}).items()
        if encoders.get(metric) != encoder
    ]
    if found:
        raise RunDirectoryError(
            f"{file.parent} is another evaluation than the study plans: {'; '.join(found)}: "
            "remove it to evaluate again, or give the study another --out"
        )


def _read(file: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(file.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise RunDirectoryError(
            f"{file} is damaged ({error}): remove its folder to evaluate again"
        ) from error
