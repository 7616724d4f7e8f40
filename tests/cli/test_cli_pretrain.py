"""`likewise pretrain`, as a user types it."""

from __future__ import annotations

import os
from pathlib import Path

from running import run, said

from likewise.records.locks import exclusive


def test_every_part_is_offered() -> None:
    result = run("pretrain", "--help")
    assert result.exit_code == 0
    for part in ("vae", "generator", "identity", "prompt", "evaluators", "all", "report"):
        assert part in result.output


def test_it_stops_when_time_is_up_resumes_and_finishes(tmp_path: Path) -> None:
    command = ["pretrain", "vae", "--work", tmp_path, "--models", tmp_path / "models"]
    command += ["--workers", "0", "--steps", "2"]
    first = run(*command, "--minutes", "0.000001")
    assert first.exit_code == 3 and "run the same command again" in first.output
    assert not (tmp_path / "vae" / "model").exists()
    state = tmp_path / "vae" / "state.safetensors"
    whole = state.read_bytes()
    state.write_bytes(whole[:1000])
    damaged = run(*command)
    assert damaged.exit_code == 2 and "training state is damaged" in damaged.output
    state.write_bytes(whole)
    second = run(*command)
    assert second.exit_code == 0 and "resumed at step 1 of 2" in second.output
    assert (tmp_path / "vae" / "model" / "diffusion_pytorch_model.safetensors").exists()


def test_others_may_read_what_was_trained(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        words = ["pretrain", "vae", "--work", tmp_path / "work", "--models", tmp_path / "models"]
        result = run(*words, "--workers", "0", "--steps", "1")
    finally:
        os.umask(before)
    assert result.exit_code == 0, result.output
    modes = {
        file.name: file.stat().st_mode & 0o777 for file in tmp_path.rglob("*") if file.is_file()
    }
    assert {"state.safetensors", "diffusion_pytorch_model.safetensors"} <= modes.keys()
    assert set(modes.values()) == {0o640}


def test_two_trainings_in_one_folder_take_turns(tmp_path: Path) -> None:
    words = ["pretrain", "vae", "--work", tmp_path, "--models", tmp_path / "models"]
    words += ["--workers", "0", "--steps", "1"]
    (tmp_path / "vae").mkdir()
    with exclusive(tmp_path / "vae" / ".lock", ValueError):
        busy = run(*words)
    assert busy.exit_code == 2 and f"process {os.getpid()}" in said(busy).replace("│ ", "")
    assert [file.name for file in (tmp_path / "vae").iterdir()] == [".lock"]
    assert run(*words).exit_code == 0


def test_generator_without_an_autoencoder_says_what_to_do(tmp_path: Path) -> None:
    result = run("pretrain", "generator", "--work", tmp_path, "--models", tmp_path)
    assert result.exit_code == 2 and "likewise pretrain vae" in result.output


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    result = run("pretrain", "report", "--models", tmp_path / "nowhere")
    assert result.exit_code == 2
    assert "nowhere" in "".join(result.output.replace("│", "").split())  # in a box, wrapped
