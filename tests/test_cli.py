"""The `likewise` command, as a user types it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from likewise.cli import app

run = CliRunner().invoke


def test_help_lists_commands_without_importing_torch() -> None:
    code = (
        "import sys; from typer.testing import CliRunner; from likewise.cli import app; "
        "result = CliRunner().invoke(app, ['--help']); print(result.output); "
        "sys.exit(result.exit_code or 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0
    assert "pretrain" in done.stdout and "draw" in done.stdout


def test_pretrain_offers_every_part() -> None:
    result = run(app, ["pretrain", "--help"])
    assert result.exit_code == 0
    for part in ("vae", "generator", "identity", "prompt", "judges", "all", "report"):
        assert part in result.output


def test_pretrain_stops_when_time_is_up_resumes_and_finishes(tmp_path: Path) -> None:
    command = ["pretrain", "vae", "--work", str(tmp_path), "--models", str(tmp_path / "models")]
    command += ["--workers", "0", "--steps", "2"]
    first = run(app, [*command, "--minutes", "0.000001"])
    assert first.exit_code == 3 and "run the same command again" in first.output
    assert not (tmp_path / "vae" / "model").exists()
    state = tmp_path / "vae" / "state.safetensors"
    whole = state.read_bytes()
    state.write_bytes(whole[:1000])
    damaged = run(app, command)
    assert damaged.exit_code == 2 and "training state is damaged" in damaged.output
    state.write_bytes(whole)
    second = run(app, command)
    assert second.exit_code == 0 and "resumed at step 1 of 2" in second.output
    assert (tmp_path / "vae" / "model" / "diffusion_pytorch_model.safetensors").exists()


def test_generator_without_an_autoencoder_says_what_to_do(tmp_path: Path) -> None:
    command = ["pretrain", "generator", "--work", str(tmp_path), "--models", str(tmp_path)]
    result = run(app, command)
    assert result.exit_code == 2 and "likewise pretrain vae" in result.output


@pytest.mark.parametrize("command", [["draw", "--model"], ["pretrain", "report", "--models"]])
def test_a_folder_that_is_not_there_is_named(command: list[str], tmp_path: Path) -> None:
    result = run(app, [*command, str(tmp_path / "nowhere")])
    assert result.exit_code == 2
    assert "nowhere" in result.output.replace("\n", "")
