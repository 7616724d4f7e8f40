"""The benchmark of how soon an arm reaches what its baseline ends with."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from types import ModuleType

import pytest

from likewise.config import load_recipe, load_study
from likewise.config.study import study_yaml, unit_recipe
from likewise.records import RunDirectory

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
STUDY = """
name: small
overrides: {run.iterations: 2, run.evaluation.every: 1, rollout.tasks: 2, rollout.group_size: 5}
seeds: [0, 1, 2]
arms:
  slow: {recipe: stickers}
  fast: {recipe: stickers-nft}
baseline: slow
vary: [objective, optimizer.learning_rate]
"""
PROMPT, IDENTITY = "eval/evaluator/prompt", "eval/evaluator/identity"


@pytest.fixture
def objectives(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("objectives")


def make_run(folder: Path, recipe, prompt: list[float], identity: list[float]) -> None:
    run = RunDirectory.create(folder, recipe, {})
    for number, (p, i) in enumerate(zip(prompt, identity, strict=True)):
        run.append_metrics({"iteration": number, PROMPT: p, IDENTITY: i, f"{PROMPT}/std": 9.0})
        if number:
            run.append_timings(
                {"iteration": number, "seconds/total": 10.0 + number, "seconds/evaluation": 4.0}
            )


def test_images_and_seconds_by_hand(
    objectives: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "s.yaml").write_text(STUDY)
    study = load_study(tmp_path / "s.yaml")
    (tmp_path / "study.yaml").write_text(study_yaml(study, tmp_path))
    last = {0: 0.7, 1: 0.8, 2: 0.9}  # of slow: the target is 0.8
    for seed, value in last.items():
        for arm, prompt in (("slow", [0.5, 0.6, value]), ("fast", [0.5, 0.85 - seed / 10, 0.8])):
            recipe = unit_recipe(study, arm, seed)
            make_run(tmp_path / "runs" / arm / f"seed-{seed}", recipe, prompt, [0.3, 0.2, 0.1])
    objectives.main([str(tmp_path)])
    rows = {(row["evaluator"], row["arm"]): row for row in json.loads(capsys.readouterr().out)}
    slow, fast = rows["evaluator/prompt", "slow"], rows["evaluator/prompt", "fast"]
    assert slow["target"] == fast["target"] == pytest.approx(0.8)
    assert (slow["before"], slow["after"]) == (0.5, pytest.approx(0.8))
    assert (slow["seeds that reach it"], slow["images"], slow["seconds"]) == (2, 20, 7 + 8)
    assert (fast["seeds that reach it"], fast["images"], fast["seconds"]) == (3, 20, 7 + 8)
    identity = rows["evaluator/identity", "fast"]
    assert (identity["target"], identity["images"]) == (0.1, 0)  # it began higher


def test_what_is_never_reached_says_so(objectives: ModuleType) -> None:
    assert objectives.middle([3, objectives.NEVER, objectives.NEVER]) == "never"
    assert objectives.middle([3, 5, objectives.NEVER]) == 5


def test_recipes_count_their_images(objectives: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text(STUDY)
    assert objectives.images_per_iteration(load_study(tmp_path / "s.yaml"), "fast") == 10
    assert load_recipe("stickers").rollout.group_size != 5  # the study's, not the recipe's
