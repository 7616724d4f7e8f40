"""Diagnostics are measured and teach nothing; rewards of whole groups work in a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import runs

from likewise.api import train
from likewise.records.run_directory import RunDirectory

TWO = {"red": runs.function("red", "prompt"), "detail": runs.function("detail", "identity")}
DIVERSITY = {"kind": "in-group-diversity", "side": "diagnostic"}


def run(model: Path, folder: Path, rewards: dict[str, Any], **changes: Any) -> RunDirectory:
    recipe = runs.tiny_recipe(model, rewards=rewards, **changes)
    return train(recipe, folder, quiet=True).run


@pytest.fixture(scope="module")
def plain(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    return run(tiny_model, tmp_path_factory.mktemp("plain") / "run", TWO)


@pytest.fixture(scope="module")
def watched(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    more = {
        "diversity": DIVERSITY,
        "copying": {"kind": "copy-index", "side": "diagnostic"},
        "broken": runs.function("always_raises", "diagnostic"),
    }
    return run(tiny_model, tmp_path_factory.mktemp("watched") / "run", {**more, **TWO})


def test_diagnostics_change_nothing_that_is_learned(
    plain: RunDirectory, watched: RunDirectory
) -> None:
    ours, theirs = runs.newest_tensors(plain.path), runs.newest_tensors(watched.path)
    assert ours.keys() == theirs.keys()
    assert all(ours[name].equal(theirs[name]) for name in ours)
    one, other = plain.read_rewards(), watched.read_rewards()
    for name in one.column_names:
        assert one[name] == other[name]
    row, watched_row = plain.read_metrics()[-1], watched.read_metrics()[-1]
    assert {key: watched_row[key] for key in row} == row


def test_diagnostics_are_measured(watched: RunDirectory) -> None:
    table = watched.read_rewards().to_pydict()
    assert all(0 < value < 2 for value in table["reward/diversity"])
    assert all(-3 < value < 3 for value in table["reward/copying"])
    assert set(table["reward/broken"]) == {None}
    assert all(table["complete"])  # a diagnostic that is missing leaves nobody out
    last = watched.read_metrics()[-1]
    assert last["reward/diversity/mean"] > 0 and last["reward/broken/missing"] == 8
    weights = {key: value for key, value in last.items() if key.startswith("weight/")}
    assert {value for key, value in weights.items() if "/copying/" in key} == {0}
    assert all(value > 0 for key, value in weights.items() if "/red/" in key)


def test_groups_are_compared_across_micro_batches_and_processes(
    launches: runs.Launches, tiny_model: Path, tmp_path: Path
) -> None:
    """Shares of 3 and 3 images, in micro-batches of 2: both processes hold a part of task 0."""
    rewards = {**TWO, "diversity": DIVERSITY}
    found = []
    for forks, size in ((1, 8), (2, 2)):
        recipe = runs.tiny_recipe(
            tiny_model,
            rewards=rewards,
            rollout={"tasks": 2, "group_size": 3, "micro_batch": size},
            run={"iterations": 1},
        )
        folder = tmp_path / f"{forks}"
        assert launches.run(folder, recipe, forks=forks)["code"] == 0
        found.append(RunDirectory.open(folder).read_rewards()["reward/diversity"].to_pylist())
    assert found[0] == pytest.approx(found[1], abs=1e-4)  # pixels round otherwise now and then
    assert all(value > 0 for value in found[0])


def test_a_group_reward_can_be_credited(tiny_model: Path, tmp_path: Path) -> None:
    rewards = {"red": TWO["red"], "diversity": {**DIVERSITY, "side": "identity"}}
    own = run(
        tiny_model,
        tmp_path / "run",
        rewards,
        run={"iterations": 2, "evaluation": {"every": 1, "tasks": 2}},
    )
    last = own.read_metrics()[-1]
    assert any(
        last[f"weight/diversity/step_{t:02d}"] > 0
        for t in range(4)
        if f"weight/diversity/step_{t:02d}" in last
    )
    assert last["update/skipped"] == 0
    assert "eval/red" in last and "eval/diversity" not in last  # one image per task there
