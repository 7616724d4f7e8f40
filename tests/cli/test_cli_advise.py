"""`likewise advise` on a tiny run, from a stored attribution, and what it refuses."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from running import run, said

FEW = ["--tasks", "3", "--resamples", "2", "--groups", "3", "--device", "cpu"]


@pytest.fixture(scope="module")
def measured(finished_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("advise") / "run"
    shutil.copytree(finished_run, folder)
    result = run("advise", folder, *FEW)
    assert result.exit_code == 0, result.output
    for text in ("inside groups, the correlation", "is decided around", "TDW is predicted to",
                 "measured TDW is predicted", "a straight line in both z", "Try "):  # fmt: skip
        assert text in said(result)
    return folder


def test_what_was_measured_is_enough_another_time(measured: Path) -> None:
    file = measured / "attribution.json"
    stored = json.loads(file.read_text())
    assert len(stored["groups"]["subjects"]) == 3
    result = run("advise", measured, "--attribution", file, "--json")
    assert result.exit_code == 0, result.output
    numbers = json.loads(result.output)
    assert set(numbers["arms"]) == {"TDW", "measured TDW", "measured TDW by roots"}
    assert numbers["gamma"] == 0.4
    assert -1 <= numbers["correlation"]["mean"] <= 1 and numbers["choice"]
    centre = stored["scorers"]["reward/prompt"]["centre"]["mean"]
    assert numbers["centres"]["prompt"]["mean"] == pytest.approx(centre, rel=1e-4)


def test_what_does_not_fit_is_named(measured: Path, tmp_path: Path) -> None:
    stored = json.loads((measured / "attribution.json").read_text())
    for name, change, fragment in (
        ("a", {"noise_level": 0.3}, "noise_level is 0.3, not 0.7"),
        ("b", {"groups": {"subjects": [], "values": {}}}, "holds no groups of samples"),
        ("c", None, "holds no attribution"),
    ):
        file = tmp_path / f"{name}.json"
        file.write_text("[1" if change is None else json.dumps({**stored, **change}))
        result = run("advise", measured, "--attribution", file)
        assert result.exit_code == 2 and fragment in said(result), result.output
    result = run("advise", "real", "--attribution", tmp_path / "a.json")
    assert result.exit_code == 2 and "real draws nothing" in said(result)
