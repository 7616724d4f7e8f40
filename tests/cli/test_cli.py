"""The command as a whole: recipes, doctor, Ctrl-C. Help: `test_cli_help.py`."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from running import run, said, start

from likewise.cli import doctor_checks
from likewise.cli.doctor_checks import Finding
from likewise.config import load_recipe, shipped_recipes, to_yaml


def test_it_runs_as_a_module_and_recipes_import_no_torch() -> None:
    process = start("recipes", "stickers-naive")
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert output == to_yaml(load_recipe("stickers-naive"))


def test_recipes_lists_all_that_ship() -> None:
    result = run("recipes")
    assert result.exit_code == 0
    for name in shipped_recipes():
        assert name in result.output
    assert "Customized-GRPO" in result.output


def test_recipes_prints_a_file_that_loads_again(tmp_path: Path) -> None:
    result = run("recipes", "stickers")
    file = tmp_path / "mine.yaml"
    file.write_text(result.output, encoding="utf-8")
    assert load_recipe(file) == load_recipe("stickers")


def test_an_unknown_recipe_is_named() -> None:
    result = run("recipes", "stikers")
    assert result.exit_code == 2 and "did you mean 'stickers'?" in said(result)


def test_doctor_finds_this_machine_well(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    result = run("doctor")
    assert result.exit_code == 0, result.output
    assert "all 5 load" in said(result) and "OMP_WAIT_POLICY=PASSIVE" in said(result)
    assert "0 problem(s)" in result.output


def test_doctor_fails_on_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    def check_well() -> Iterator[Finding]:
        yield Finding("one thing", "ok", "fine")

    def check_broken_thing() -> Iterator[Finding]:
        raise RuntimeError("no [bold] luck")

    monkeypatch.setattr(doctor_checks, "CHECKS", (check_well, check_broken_thing))
    result = run("doctor")
    assert result.exit_code == 1
    assert "broken thing" in said(result) and "RuntimeError: no [bold] luck" in said(result)
    assert "1 problem(s), 0 warning(s)" in said(result)


def test_doctor_names_what_rebuilds_a_missing_model(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("likewise.assets._HERE", tmp_path)
    findings = list(doctor_checks.check_models())
    assert [finding.status for finding in findings] == ["problem"] * 5
    assert "likewise pretrain generator" in findings[0].advice


INTERRUPTED = """
import importlib.abc, os, signal, sys

class Interrupt(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == wanted:
            os.kill(os.getpid(), signal.SIGINT)

wanted = sys.argv.pop(1)
sys.meta_path.insert(0, Interrupt())
from likewise.__main__ import main
main()
"""


@pytest.mark.parametrize("at_first", [signal.SIG_DFL, signal.SIG_IGN])
@pytest.mark.parametrize(
    ("module", "code"),
    [("likewise.cli", -signal.SIGINT), ("typer", -signal.SIGINT), ("torch", 130)],
)
def test_ctrl_c_while_something_is_imported_is_quiet(
    module: str, code: int, at_first: signal.Handlers
) -> None:
    """Before the command has loaded, and inside of it; ignored as in a script's background too."""
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED, module, "doctor"],
        capture_output=True,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, at_first),
    )
    assert (done.returncode, done.stdout, done.stderr) == (code, "", "")
