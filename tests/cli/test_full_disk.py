"""A full disk: every command says so in one line that names a file, and leaves no half of one."""

from __future__ import annotations

import re
import resource
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from running import TINY, run
from tiny import photo

from likewise.records import CheckpointStore

FULL = re.compile(r"error: .*(File too large|os error 27).*")


@contextmanager
def room_for(size: int) -> Iterator[None]:
    """Let no file grow beyond `size` bytes: writing fails half-way, as where a disk is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def fails_in_one_line(name: str, size: int, *words: str | Path) -> None:
    """The command ends with one line about a full disk that holds `name`."""
    with room_for(size):
        result = run(*words)
    assert result.exit_code == 2, result.output
    lines = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1 and FULL.match(lines[0]) and name in lines[0], result.output
    assert "Traceback" not in result.output


def files(folder: Path) -> dict[str, bytes]:
    found = (file for file in folder.rglob("*") if file.is_file())
    return {str(file.relative_to(folder)): file.read_bytes() for file in found}


def test_generate_writes_whole_images_or_none(tmp_path: Path) -> None:
    photo(90, 70).save(tmp_path / "photo.png")
    words = ["generate", "--reference", tmp_path / "photo.png", "--prompt", "a duck"]
    words += ["--recipe", "stickers", "--count", "2"]
    out = tmp_path / "out"
    out.mkdir()
    (out / "new-0.png").write_bytes(b"what was there before")
    fails_in_one_line("new-0.png", 1000, *words, "--out", out / "new.png")
    assert files(out) == {"new-0.png": b"what was there before"}


@pytest.mark.parametrize("file_format", ["diffusers", "comfyui", "kohya"])
def test_export_writes_a_whole_file_or_none(
    file_format: str, finished_run: Path, tmp_path: Path
) -> None:
    out = tmp_path / "lora.safetensors"
    words = ["export", finished_run, "--format", file_format, "--out", out]
    fails_in_one_line("lora.safetensors", 20_000, *words)
    assert files(tmp_path) == {}


def test_export_writes_a_whole_folder_of_weights_or_none(tmp_path: Path) -> None:
    words = ["train", *TINY, "adapter.kind=full", "--run-dir", tmp_path / "run"]
    assert run(*words).exit_code == 0
    out = tmp_path / "out"
    fails_in_one_line("out", 20_000, "export", tmp_path / "run", "--out", out)
    assert not out.exists() and not list(tmp_path.glob(".tmp-*"))


def test_an_evaluation_goes_on_where_the_disk_was_full(finished_run: Path, tmp_path: Path) -> None:
    words = ["evaluate", finished_run, "--only", "after", "--tasks", "2", "--out"]
    folder = tmp_path / "full"
    fails_in_one_line("after/images/", 3000, *words, folder)
    assert not list(folder.rglob(".tmp-*"))
    for out in (folder, tmp_path / "undisturbed"):
        assert run(*words, out).exit_code == 0
    assert files(folder) == files(tmp_path / "undisturbed")


def test_training_ends_in_one_line_and_resumes_from_older_state(tmp_path: Path) -> None:
    words = [*TINY, "run.iterations=2", "run.checkpoints.every=1"]
    folder = tmp_path / "run"
    assert run("train", *words, "--run-dir", folder).exit_code == 0
    newest = folder / "checkpoints" / "iteration-000002"
    wanted = files(newest)
    shutil.rmtree(newest)
    fails_in_one_line("run/checkpoints/", 50_000, "train", "--resume", folder)
    store = CheckpointStore(folder / "checkpoints", 2)
    found = store.newest()
    assert found is not None and found.iteration == 1 and not newest.exists()
    assert not list((folder / "checkpoints").glob(".tmp-*"))
    assert run("train", "--resume", folder).exit_code == 0
    assert files(newest) == wanted
