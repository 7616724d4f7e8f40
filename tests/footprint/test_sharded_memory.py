"""What a plan says of a denoiser in shards, against what each of two processes really takes."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import replace
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "policies"))

from measuring import measured_peak
from shapes import SHAPES, recipe_of

from likewise.api.dry_run import Planner, for_gpus
from likewise.config import Recipe, load_recipe
from likewise.footprint.phases import GB
from likewise.trainer.launch import launch
from likewise.trainer.processes import Processes

FULL = ["adapter={kind: full}"]
RECOMPUTED = [*FULL, "policy.gradient_checkpointing=true"]


@pytest.mark.slow  # 12 B parameters, traced for two kinds of update
def test_all_of_kontext_is_trained_on_eight_gpus_in_shards() -> None:
    changes = ["adapter.kind=full", "run.sharding=fsdp2"]
    needs = Planner().memory(for_gpus(load_recipe("kontext", changes), 8)).needs
    assert needs.peak < 80 * GB
    whole = replace(needs, spread=None)
    assert whole.peak > 160 * GB


def measure(text: str, folder: str) -> None:
    """One process, which leaves its peak in `folder`."""
    from accelerate import Accelerator

    processes = Processes(Accelerator(cpu=True))
    recipe = Recipe.model_validate_json(text)
    peak = measured_peak(recipe, Path(folder) / f"run-{processes.index}")
    (Path(folder) / f"{processes.index}.json").write_text(json.dumps(peak))


@pytest.mark.slow  # starts two interpreters
@pytest.mark.parametrize("changes", [[], FULL, RECOMPUTED], ids=["lora", "full", "recomputed"])
def test_planned_memory_in_shards_is_what_training_takes(
    changes: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "FLUX.1 Kontext"
    assert name in SHAPES
    shards = ["run.processes=2", "run.sharding=fsdp2"]
    work = ["rollout.num_steps=3", "rollout.group_size=4"]
    recipe = recipe_of(name, tmp_path, *shards, *work, *changes)
    planned = Planner(gpu=False).memory(recipe).needs
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, sys.path)))
    launch(2, measure, recipe.model_dump_json(), str(tmp_path))
    for process in range(2):
        measured = json.loads((tmp_path / f"{process}.json").read_text())
        print(f"\n{process}: planned {planned.peak / 1e6:.1f} MB, measured {measured / 1e6:.1f} MB")
        print({phase: round(size / 1e6, 1) for phase, size in planned.phases.items()})
        assert planned.peak == pytest.approx(measured, rel=0.02)  # measured: 0.1 %
