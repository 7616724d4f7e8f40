"""The recipes of full-size models, on tiny ones: from the command line to the end, and resumed.

What a recipe says of its model stays; its weights, data and encoders become what is at hand.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import photosets
import pytest
from policies.families import Family, families
from rewards.hpsv3_tiny import write_base, write_checkpoint
from running import run, said

from likewise.trainer.saving import Checkpoints

SMALL = [
    "rewards.identity.model=nano-dinov2",
    *("adapter.rank=4", "adapter.alpha=8"),
    *("rollout.tasks=1", "rollout.group_size=2", "rollout.num_steps=5", "rollout.micro_batch=2"),
    *("run.iterations=2", "run.checkpoints.every=1", "run.evaluation.every=0", "run.trackers=[]"),
    *("run.device=cpu", "run.processes=1", "run.threads=1"),
]
BY_RECIPE = {family.recipe: family for family in reversed(families())}  # SDXL is on SD 1.5's


def test_every_recipe_at_scale_is_here() -> None:
    assert sorted(BY_RECIPE) == ["klein-4b", "kontext", "paper", "qwen-edit", "sd15-ip-adapter"]


@pytest.mark.parametrize("family", BY_RECIPE.values(), ids=BY_RECIPE)
def test_it_runs_and_resumes(
    family: Family, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_hand = [*family.save(tmp_path / "model"), *data_and_prompt(family.recipe, tmp_path)]
    words = ["train", family.recipe, *SMALL, *at_hand, "--run-dir"]
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    result = run(*words, whole)
    assert result.exit_code == 0, result.output
    assert "finished: 2 iterations" in said(result)

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoints, "save", save_and_stop)
        result = run(*words, stopped)
    assert result.exit_code == 128 + signal.SIGTERM, result.output
    assert "stopped (SIGTERM) after iteration 1" in said(result)
    assert len((stopped / "metrics.jsonl").read_text().splitlines()) == 1
    result = run("train", "--resume", stopped)
    assert result.exit_code == 0, result.output

    assert (stopped / "metrics.jsonl").read_bytes() == (whole / "metrics.jsonl").read_bytes()
    assert last_checkpoint(stopped) == last_checkpoint(whole)


def data_and_prompt(recipe: str, folder: Path) -> list[str]:
    """What stands for the recipe's data and prompt reward: for the paper's, SynCD and HPSv3."""
    if recipe != "paper":
        return ["data.kind=stickers", "rewards.prompt.model=nano-clip"]
    (folder / "syncd").mkdir()
    photosets.syncd(folder / "syncd")
    write_base(folder / "base")
    write_checkpoint(folder / "HPSv3.safetensors")
    return [
        "rollout.group_size=3",  # which its three updates per iteration divide
        f"data.path={folder / 'syncd'}",
        "data.workers=0",
        f"rewards.prompt.model={folder / 'HPSv3.safetensors'}",
        f"rewards.prompt.base={folder / 'base'}",
    ]


def last_checkpoint(run_dir: Path) -> dict[str, bytes]:
    folder = run_dir / "checkpoints" / "iteration-000002"
    files = {str(f.relative_to(folder)): f.read_bytes() for f in folder.rglob("*.safetensors")}
    assert "learner.safetensors" in files and len(files) > 1
    return files


save = Checkpoints.save


def save_and_stop(self: Checkpoints, *arguments: Any) -> None:
    """As a machine that is wanted for something else: SIGTERM once there is a checkpoint."""
    save(self, *arguments)
    os.kill(os.getpid(), signal.SIGTERM)
