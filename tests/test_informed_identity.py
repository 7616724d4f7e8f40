"""The identity reward that knows what was asked for, and the study that uses it."""

from __future__ import annotations

from pathlib import Path

from likewise.config import load_study
from likewise.data.stickers.world import training_task, truth
from likewise.imports import load_target

ROOT = Path(__file__).parents[1]
TARGET = "benchmarks.informed_identity:informed"


def test_obeying_beats_copying_where_the_prompt_asks_for_change() -> None:
    informed = load_target(TARGET)
    found = [training_task(index, seed=3) for index in range(40)]
    tasks = [task for task in found if task.kind == "property"]
    assert len(tasks) > 3
    obeyed, valid = informed([truth(task, 2).image for task in tasks], tasks)
    copied, _ = informed([task.reference for task in tasks], tasks)
    assert valid.all() and (obeyed > copied).all()


def test_the_study_differs_from_stickers_2_in_what_it_is_about() -> None:
    study = load_study(ROOT / "benchmarks" / "stickers-2-reasons.yaml")
    first = load_study("stickers-2")
    assert study.overrides == first.overrides
    assert not set(study.seeds) & {*first.seeds, *load_study("stickers-2-rivals").seeds}
    asked = [arm for arm in study.arms if arm.startswith("informed")]
    assert asked and all(TARGET in str(study.arms[arm].overrides) for arm in asked)
