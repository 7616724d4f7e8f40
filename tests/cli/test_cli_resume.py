"""`likewise train --resume`: what a run notices of its recipe, its dataset and its records."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from pathlib import Path

import photosets
import pytest
from running import TINY, run, said

from likewise.records import RunDirectory

PHOTOS = ["data.kind=jsonl", "data.path=photos/tasks.jsonl", "data.workers=0", "data.held_out=null"]
PHOTOS += ["policy.dtype=float32", "rewards.identity.segment=false", "run.threads=1"]
LENGTH = ["run.iterations=2", "run.checkpoints.every=1"]


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on photos, beside them, killed in its second iteration. Tests must not change it."""
    folder = tmp_path_factory.mktemp("stopped")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        Path("photos").mkdir()
        photosets.jsonl(Path("photos")).rename("photos/tasks.jsonl")
        result = run("train", *TINY, *PHOTOS, *LENGTH, "--run-dir", "run")
    assert result.exit_code == 0, result.output
    shutil.rmtree(folder / "run" / "checkpoints" / "iteration-000002")
    return folder


@pytest.fixture
def home(stopped: Path, tmp_path: Path) -> Path:
    """A copy, whose recipe knows the photos by the folder that they were copied from."""
    shutil.copytree(stopped, tmp_path / "home")
    return tmp_path / "home"


def edit(home: Path, old: str, new: str) -> None:
    file = home / "run" / "recipe.yaml"
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


def log(home: Path) -> str:
    return (home / "run" / "log.txt").read_text()


def test_relative_paths_are_stored_absolute(
    stopped: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = RunDirectory.open(home / "run").recipe
    assert recipe.data.path == str(stopped / "photos" / "tasks.jsonl")
    assert recipe.policy.model == "nano-kontext"
    monkeypatch.chdir(home / "photos")
    result = run("train", "--resume", "../run")
    assert result.exit_code == 0, result.output
    assert "although" not in log(home) and "lacks" not in log(home)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("learning_rate:", "learning_rate: 0.3 #", "and is 0.3"),
        ("\nseed: 0", "\nseed: 5", "seed was 0 and is 5"),
        ("iterations: 2", "iterations: 3", "run.iterations was 2 and is 3"),
        ("model: nano-clip", "model: nano-dinov2", "rewards.prompt.model was 'nano-clip'"),
    ],
)
def test_a_recipe_edited_by_hand_is_refused(home: Path, old: str, new: str, message: str) -> None:
    edit(home, old, new)
    result = run("train", "--resume", home / "run")
    assert result.exit_code == 2 and "Traceback" not in result.output
    assert message in said(result) and "--accept-changes" in said(result)


def test_what_changes_no_number_may_be_edited(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("likewise.api.training.auto_processes", lambda _: 1)
    edit(home, "processes: 1", "processes: auto")  # what was settled at the start, too
    edit(home, "keep: 2", "keep: 1")
    result = run("train", "--resume", home / "run")
    assert result.exit_code == 0, result.output
    assert "although" not in log(home)


def test_other_threads_are_a_word(home: Path) -> None:
    edit(home, "threads: 1", "threads: 2")
    result = run("train", "--resume", home / "run")
    assert result.exit_code == 0, result.output
    assert "goes on after iteration 1 although run.threads was 1 and is 2" in log(home)


@pytest.mark.parametrize("change", ["prompt", "file", "row"])
def test_a_changed_dataset_is_refused_or_accepted_with_a_word(home: Path, change: str) -> None:
    photos = home / "photos"
    tasks = photos / "tasks.jsonl"
    edit(home, RunDirectory.open(home / "run").recipe.data.path, str(tasks))  # it may move
    if change == "prompt":
        tasks.write_text(tasks.read_text().replace("a duck, number 3", "a goose"))
    elif change == "file":
        photosets.save(photos / "photos" / "1-0.png", 400, size=(60, 50))
    else:
        tasks.write_text("".join(tasks.read_text().splitlines(keepends=True)[:-1]))
    refused = run("train", "--resume", home / "run")
    assert refused.exit_code == 2 and "data.path holds another dataset" in said(refused)
    accepted = run("train", "--resume", home / "run", "--accept-changes")
    assert accepted.exit_code == 0, accepted.output
    assert "although data.path holds another dataset" in log(home)


def test_lost_records_are_noticed(home: Path) -> None:
    (home / "run" / "metrics.jsonl").write_text('{"iteration": 1, "los')
    shutil.rmtree(home / "run" / "rewards")
    result = run("train", "--resume", home / "run")
    assert result.exit_code == 0, result.output
    assert "metrics.jsonl lacks iteration 1, which" in said(result)
    assert "warning: rewards/ lacks iteration 1" in log(home)


def test_ctrl_c_while_a_run_is_built_acts_at_once(tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text(
        "import os, signal, time\n"
        "os.kill(os.getpid(), signal.SIGINT)\n"
        "time.sleep(60)\n"
        "def reward(images, tasks): ...\n"
    )
    words = ["rewards.slow.kind=function", "rewards.slow.target=slow:reward"]
    words += ["rewards.slow.side=diagnostic"]
    done = subprocess.run(
        [sys.executable, "-m", "likewise", "train", *TINY, *words, "--run-dir", "run"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert done.returncode == 130, done.stderr
    assert "stopped (SIGINT) before the run began; nothing was written" in done.stdout
    assert "Traceback" not in done.stderr and not (tmp_path / "run").exists()


def test_a_refused_start_leaves_nothing_and_can_be_repeated(tmp_path: Path) -> None:
    words = ["train", *TINY, *PHOTOS, "data.path=nowhere.jsonl", "--run-dir", tmp_path / "run"]
    first, second = run(*words), run(*words)
    assert (first.exit_code, second.exit_code) == (2, 2)
    assert "nowhere.jsonl" in said(second) and "--resume" not in said(second)
    assert not (tmp_path / "run").exists()
