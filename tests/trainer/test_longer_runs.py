"""A run beyond its end equals one that was as long from the start, and keeps its history."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from runs import newest_tensors, snapshot, tiny_recipe

from likewise.api import train
from likewise.api.extending import extend, plan_extension
from likewise.records import RunDirectory


@pytest.fixture(scope="module")
def short(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    """Two iterations, with an average, evaluations and a constant learning rate."""
    return train(settings(tiny_model, 2), tmp_path_factory.mktemp("short") / "run", True).run


def settings(model: Path, iterations: int, **optimizer: Any) -> Any:
    return tiny_recipe(
        model,
        optimizer={"learning_rate": 3e-3, "ema_decay": 0.9, **optimizer},
        run={"iterations": iterations, "evaluation": {"every": 2, "tasks": 2}},
    )


def test_an_extended_run_equals_a_long_one(
    short: RunDirectory, tiny_model: Path, tmp_path: Path
) -> None:
    before = snapshot(short.path)
    outcome = extend(short.path, ["run.iterations=4"], tmp_path / "longer", quiet=True)
    assert outcome.finished and outcome.iteration == 4
    assert snapshot(short.path) == before
    long = train(settings(tiny_model, 4), tmp_path / "long", quiet=True).run
    assert [row["iteration"] for row in long.read_metrics()] == list(range(5))
    assert outcome.run.read_metrics() == long.read_metrics()
    assert outcome.run.read_rewards().equals(long.read_rewards())
    one, other = newest_tensors(outcome.run.path), newest_tensors(long.path)
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert {file.name for file in (outcome.run.path / "samples").iterdir()} == {
        file.name for file in (long.path / "samples").iterdir()
    }
    assert "goes on after iteration 2" in outcome.run.log.read_text()
    assert "learning rate is constant: the next step's is 0.003\n" in outcome.run.log.read_text()


def test_what_a_schedule_does_is_said(short: RunDirectory) -> None:
    plan = plan_extension(short.path, ["run.iterations=4", "optimizer.schedule=linear"])
    assert plan.schedule == (
        "schedule linear is laid out over 4 iterations, and was constant over 2: the next step's "
        "is 0.0015 instead of 0.003"
    )


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ([], r"run.iterations is 2, and .* has done 2: give more"),
        (["run.iterations=1"], "give more"),
        (["run.iterations=4", "rollout.tasks=4"], "rollout.tasks is 4, not 2.*adapter.start="),
        (["run.iterations=4", "adapter.rank=8"], "adapter.rank is 8, not 4"),
        (["run.iterations=4", "optimizer.ema_decay=null"], "neither begin nor end an average"),
        (["run.iterations=x"], "override run.iterations=x"),
    ],
)
def test_what_cannot_be_extended_says_why(
    overrides: list[str], message: str, short: RunDirectory, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=message):
        extend(short.path, overrides, tmp_path / "new", quiet=True)
    assert not (tmp_path / "new").exists()


def test_inside_a_launcher_it_is_refused(
    short: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    with pytest.raises(ValueError, match="inside another launcher"):
        plan_extension(short.path, ["run.iterations=4"])


def test_a_folder_that_is_in_use_is_refused(short: RunDirectory, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(ValueError, match="not an empty folder"):
        extend(short.path, ["run.iterations=4"], tmp_path, quiet=True)
    assert [file.name for file in tmp_path.iterdir()] == ["mine.txt"]
