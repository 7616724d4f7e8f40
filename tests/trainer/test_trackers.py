"""What trackers get of a run: its numbers, and the sample grid of each evaluation. All offline."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from runs import tiny_recipe

from likewise.api import train
from likewise.records import RunDirectory


@pytest.fixture
def run_with(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """``run_with(tracker)``: a run of one iteration with evaluations before and after."""
    for name, value in {
        "WANDB_MODE": "offline",
        "WANDB_DIR": str(tmp_path / "wandb"),
        "WANDB_SILENT": "true",
        "TRACKIO_DIR": str(tmp_path / "trackio"),
    }.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "wandb").mkdir()

    def run(tracker: str) -> RunDirectory:
        pytest.importorskip(tracker)
        recipe = tiny_recipe(
            tiny_model,
            run={
                "iterations": 1,
                "evaluation": {"every": 1, "tasks": 2, "grid": 2},
                "trackers": [tracker],
            },
        )
        return train(recipe, tmp_path / "run", quiet=True).run

    yield run


def grid_sizes(run: RunDirectory) -> list[tuple[int, int]]:
    sizes = []
    for iteration in (0, 1):
        with Image.open(run.sample_path(iteration)) as grid:
            sizes.append(grid.size)
    return sizes


def test_tensorboard_has_numbers_and_grids(run_with: Any) -> None:
    run = run_with("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    (folder,) = {file.parent for file in (run.path / "trackers").rglob("events.*")
                 if file.parent.name == "likewise"}  # fmt: skip
    events = EventAccumulator(str(folder), {"images": 0}).Reload()
    images = events.Images("samples")
    assert [one.step for one in images] == [0, 1]
    assert [(one.width, one.height) for one in images] == grid_sizes(run)
    (loss,) = events.Scalars("update/loss")
    assert loss.step == 1
    assert [one.step for one in events.Scalars("eval/red")] == [0, 1]


def test_wandb_has_grids_offline(run_with: Any, tmp_path: Path) -> None:
    run = run_with("wandb")
    files = sorted((tmp_path / "wandb").rglob("samples_*.png"))
    assert len(files) == 2 and list((tmp_path / "wandb").rglob("*.wandb"))
    sizes = []
    for file in files:
        with Image.open(file) as image:
            sizes.append(image.size)
    assert sizes == grid_sizes(run)


def test_trackio_has_grids_offline(run_with: Any, tmp_path: Path) -> None:
    run = run_with("trackio")
    files = list((tmp_path / "trackio").rglob("*.png"))
    assert len(files) == 2 and list((tmp_path / "trackio").rglob("*.db"))
    with Image.open(files[0]) as image:
        assert image.size in grid_sizes(run)
