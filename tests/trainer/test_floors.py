"""Floors of a hinge gate: what the untrained model reaches, measured once, kept in checkpoints."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
import torch
from runs import snapshot, tiny_recipe
from tiny import a_task
from torch import Tensor

from likewise.api import resume, train
from likewise.api.extending import extend
from likewise.config.recipe import Recipe
from likewise.records.run_directory import RunDirectory
from likewise.rollout.scoring import Scores
from likewise.trainer.checks import TrainingError
from likewise.trainer.floors import FLOORS, Floors

TASKS = [replace(a_task(), kind=kind) for kind in ("scene", "property", "scene")]
VALUES = torch.tensor([[9.0] * 6, [0.1, 0.3, 0.5, 0.7, 0.2, 0.6], [1.0, 2, 3, 4, 5, 6]])
VALID = torch.ones(3, 6, dtype=torch.bool)
CREDIT = {"shaping": {"kind": "hinge-gate"}, "time_weights": {"kind": "constant"}}


def recipe(**shaping: Any) -> Recipe:
    """Of three rewards: the gate is `look` and a tenth of `shape`."""
    return Recipe.model_validate(
        {
            "name": "test",
            "rewards": {
                "text": {"kind": "clip", "side": "prompt"},
                "look": {"kind": "dino", "side": "identity"},
                "shape": {"kind": "dino", "side": "identity", "weight": 0.1},
            },
            "rollout": {"tasks": 3, "group_size": 2},
            "credit": {**CREDIT, "shaping": {"kind": "hinge-gate", **shaping}},
        }
    )


def scores(values: Tensor = VALUES, valid: Tensor = VALID) -> Scores:
    return Scores(values, valid, failures={"look": "no answer"})


def test_floors_are_means_by_kind_of_iteration_1() -> None:
    floors = Floors(recipe())
    scene = fmean([0.1 + 0.1, 0.3 + 0.2, 0.2 + 0.5, 0.6 + 0.6])
    by_hand = [scene, 0.5 + 0.3, 0.7 + 0.4]  # the last two: of `property`, whose mean is theirs
    wanted = torch.tensor([by_hand[0]] * 2 + [fmean(by_hand[1:])] * 2 + [by_hand[0]] * 2)
    first = floors.of(1, TASKS, scores())
    assert first is not None and first.dtype == torch.float32
    torch.testing.assert_close(first, wanted)
    later = floors.of(2, TASKS, scores(VALUES + 1))
    assert later is not None and torch.equal(later, first)


def test_a_kind_that_comes_later_has_the_mean_of_all_kinds() -> None:
    floors = Floors(recipe())
    floors.of(1, TASKS, scores())
    found = floors.of(2, [replace(a_task(), kind="layout")], scores())
    assert found is not None
    assert found.tolist() == pytest.approx([fmean(floors.by_kind.values())] * 2)


def test_samples_without_a_gate_reward_do_not_count() -> None:
    valid = VALID.clone()
    valid[1, 0] = valid[2, 5] = False  # the gate needs both
    valid[0, 1] = False  # the main reward has no part in floors
    values = VALUES.masked_fill(~valid, 1e6)
    floors = Floors(recipe())
    floors.of(1, TASKS, scores(values, valid))
    assert floors.by_kind["scene"] == pytest.approx(fmean([0.3 + 0.2, 0.2 + 0.5]))


def test_nothing_to_measure_is_an_error() -> None:
    valid = VALID.clone()
    valid[1] = False
    with pytest.raises(TrainingError, match=r"all of whose samples lack look.*look: no answer"):
        Floors(recipe()).of(1, TASKS, scores(VALUES, valid))


def test_a_number_needs_no_measurement(tmp_path: Path) -> None:
    floors = Floors(recipe(floor=0.4))
    assert floors.of(1, TASKS, scores()) is None
    floors.write(tmp_path)
    floors.read(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_checkpoint_keeps_every_bit(tmp_path: Path) -> None:
    floors, resumed = Floors(recipe()), Floors(recipe())
    first = floors.of(1, TASKS, scores())
    floors.write(tmp_path)
    resumed.read(tmp_path)
    later = resumed.of(2, TASKS, scores(VALUES + 1))
    assert first is not None and later is not None and torch.equal(first, later)


@pytest.mark.parametrize("before", [None, {"gate": "prompt"}], ids=["none", "another gate"])
def test_floors_of_something_else_are_refused(before: Any, tmp_path: Path) -> None:
    if before:
        other = Floors(recipe(**before))
        other.of(1, TASKS, scores())
        other.write(tmp_path)
    with pytest.raises(ValueError, match=rf"{FLOORS} of look, shape.*Give a number, or start"):
        Floors(recipe()).read(tmp_path)


# ── whole runs ──


@pytest.fixture(scope="module")
def gated(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    """Three iterations, a checkpoint after each."""
    own = tiny_recipe(tiny_model, credit=CREDIT, run={"checkpoints": {"every": 1, "keep": 3}})
    return train(own, tmp_path_factory.mktemp("gated") / "run", quiet=True).run


def test_every_iteration_has_the_floors_of_the_first(gated: RunDirectory) -> None:
    rows = gated.read_rewards().to_pylist()
    measured: dict[str, list[float]] = {}
    for row in rows:
        if row["iteration"] == 1:
            measured.setdefault(row["kind"], []).append(row["reward/detail"])
    means = {kind: fmean(values) for kind, values in measured.items()}
    others = fmean(means.values())
    for row in rows:
        assert row["floor"] == pytest.approx(means.get(row["kind"], others), rel=1e-6)
    for folder in gated.checkpoints.iterdir():
        assert json.loads((folder / FLOORS).read_text())["floors"] == pytest.approx(means)


def test_a_run_that_goes_on_from_a_checkpoint_has_them_too(gated: RunDirectory) -> None:
    """Its model has learned by then, so floors measured again would be others."""
    wanted = snapshot(gated.path)
    for iteration in (3, 2):
        (gated.checkpoints / f"iteration-{iteration:06d}" / "manifest.json").unlink()
    with pytest.warns(UserWarning, match="is skipped"):
        assert resume(gated.path, quiet=True).finished
    assert snapshot(gated.path) == wanted


def test_an_extended_run_keeps_them(gated: RunDirectory, tmp_path: Path) -> None:
    longer = extend(gated.path, ["run.iterations=4"], tmp_path / "longer", quiet=True).run
    one, other = (max(run.checkpoints.iterdir()) / FLOORS for run in (gated, longer))
    assert one.read_bytes() == other.read_bytes()
    floors = {row["kind"]: row["floor"] for row in gated.read_rewards().to_pylist()}
    for row in longer.read_rewards(4).to_pylist():
        assert row["floor"] == floors.get(row["kind"], row["floor"])


def test_a_run_that_began_without_cannot_measure_later(tiny_model: Path, tmp_path: Path) -> None:
    plain = train(tiny_recipe(tiny_model, run={"iterations": 1}), tmp_path / "run", quiet=True).run
    file = plain.path / "recipe.yaml"
    changed = tiny_recipe(tiny_model, credit=CREDIT, run={"iterations": 2})
    file.write_text(changed.model_dump_json())  # JSON is YAML
    with pytest.raises(ValueError, match=rf"has no {FLOORS} of detail"):
        resume(plain.path, quiet=True, accept_changes=True)
