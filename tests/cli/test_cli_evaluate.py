"""`likewise evaluate` on a tiny run of the nano."""

from __future__ import annotations

import json
from pathlib import Path

from PIL import Image
from running import run, said

from likewise.records import RunDirectory


def test_a_run_is_compared_with_its_model_before(finished_run: Path) -> None:
    result = run("evaluate", finished_run, "--tasks", "4")
    assert result.exit_code == 0, result.output
    for text in ("4 tasks", "prompt reward", "identity reward", "same subject (judge)", "before"):
        assert text in said(result)
    folder = finished_run / "evaluation"
    with Image.open(folder / "before-after.png") as sheet:
        assert sheet.size == (4 * 132, 3 * 146)
    numbers = json.loads((folder / "before-after.json").read_text())
    whole = numbers["measures"]["all"]
    names = {"prompt", "identity", "judge-prompt", "judge-identity"}
    assert set(whole) == names
    assert all(measure["tasks"] == 4 and measure["before"] > 0 for measure in whole.values())
    kinds = [numbers["measures"][kind]["prompt"]["tasks"] for kind in numbers["measures"]]
    assert sum(kinds[1:]) == kinds[0]
    assert numbers["checkpoint"] == "iteration-000001"


def test_what_is_no_run_is_named(tmp_path: Path) -> None:
    result = run("evaluate", tmp_path / "nowhere")
    assert result.exit_code == 2 and "nowhere" in said(result)
    result = run("evaluate", tmp_path)
    assert result.exit_code == 2 and "is not a run directory" in said(result)


def test_a_run_without_checkpoints_says_so(tmp_path: Path, finished_run: Path) -> None:
    recipe = RunDirectory.open(finished_run).recipe
    RunDirectory.create(tmp_path / "new", recipe, {})
    result = run("evaluate", tmp_path / "new")
    assert result.exit_code == 2 and "has no intact checkpoint" in said(result)
