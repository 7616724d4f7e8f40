"""`likewise train`: real runs of the nano, small ones, and every way in which they end."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest
from running import TINY, run, said, start

from likewise.cli.train import split
from likewise.records import CheckpointStore
from likewise.trainer.checks import TrainingError


@pytest.mark.parametrize(
    ("words", "recipe", "overrides"),
    [
        ([], "stickers", []),
        (["stickers-naive"], "stickers-naive", []),
        (["seed=1"], "stickers", ["seed=1"]),
        (["~rollout.shift", "seed=1"], "stickers", ["~rollout.shift", "seed=1"]),
        (["mine.yaml", "seed=1"], "mine.yaml", ["seed=1"]),
    ],
)
def test_the_first_word_is_a_recipe_unless_it_is_an_override(
    words: list[str], recipe: str, overrides: list[str]
) -> None:
    assert split(words) == (recipe, overrides)


def test_a_run_says_what_to_do_with_it_and_is_not_run_again(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    result = run("train", *TINY, "--run-dir", folder)
    assert result.exit_code == 0
    assert said(result).startswith(f"run directory: {folder}")
    assert f"likewise generate --adapter {folder}" in said(result)
    assert (folder / "metrics.jsonl").is_file()
    again = run("train", "--resume", folder)
    assert again.exit_code == 0 and "is finished already" in said(again)


def test_a_shipped_name_may_be_left_out_and_quiet_is_quiet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = run("train", *TINY[1:], "--quiet")
    assert result.exit_code == 0 and result.output == ""
    assert [folder.name.startswith("stickers-2") for folder in Path("runs").iterdir()] == [True]


def test_a_signal_stops_a_run_that_can_be_resumed(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    process = start("train", *TINY, "run.iterations=100000", "--run-dir", folder)
    deadline = time.monotonic() + 120
    while not (folder / "metrics.jsonl").is_file():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM
    newest = CheckpointStore(folder / "checkpoints", 1).newest()
    assert newest is not None
    assert f"stopped (SIGTERM) after iteration {newest.iteration}; go on with" in output
    assert f"likewise train --resume {folder}" in output
    assert "torchvision" not in output and "Loading" not in output


def test_a_stopped_run_goes_on(finished_run: Path, tmp_path: Path) -> None:
    import shutil

    folder = tmp_path / "run"
    shutil.copytree(finished_run, folder)
    recipe = folder / "recipe.yaml"
    recipe.write_text(recipe.read_text().replace("iterations: 1", "iterations: 2"))
    refused = run("train", "--resume", folder)
    assert refused.exit_code == 2 and "run.iterations was 1 and is 2" in said(refused)
    result = run("train", "--resume", folder, "--accept-changes")
    assert result.exit_code == 0
    assert "although run.iterations was 1 and is 2" in (folder / "log.txt").read_text()
    assert "goes on after iteration 1 of 2" in said(result) and "finished: 2" in said(result)
    assert len((folder / "metrics.jsonl").read_text().splitlines()) == 2


def test_a_finished_run_is_trained_on_in_another_folder(finished_run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "longer"
    result = run("train", "--extend", finished_run, "run.iterations=2", "--run-dir", folder)
    assert result.exit_code == 0, result.output
    assert "goes on after iteration 1 of" in said(result) and "finished: 2" in said(result)
    assert "the next step's is" in said(result)
    assert len((folder / "metrics.jsonl").read_text().splitlines()) == 2
    assert len((finished_run / "metrics.jsonl").read_text().splitlines()) == 1
    again = run("train", "--extend", finished_run, "--run-dir", tmp_path / "same")
    assert again.exit_code == 2 and "give more, as in run.iterations=2" in said(again)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["run.iterations=9"], "a resumed run keeps its recipe"),
        (["stickers"], "a resumed run keeps its recipe"),
        (["--run-dir", "elsewhere"], "cannot be combined with --run-dir"),
        (["--dry-run"], "cannot be combined with --dry-run"),
        (["--extend", "runs/other"], "cannot be combined with --extend"),
    ],
)
def test_resume_takes_nothing_else(words: list[str], message: str, finished_run: Path) -> None:
    result = run("train", *words, "--resume", finished_run)
    assert result.exit_code == 2 and message in said(result)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["stikers"], "did you mean 'stickers'?"),
        (["stickers", "rollout.group=3"], "did you mean 'group_size'?"),
        (["stickers", "loud"], "override 'loud' has no '='"),
        (["rollout.group_size=1"], "rollout.group_size"),
        (["--resume", "nowhere"], "there is no run directory nowhere"),
        (["--resume", "."], "it has no recipe.yaml"),
        (["--accept-changes"], "use it with --resume"),
        (["--extend", "nowhere", "run.iterations=2"], "there is no run directory nowhere"),
        (["--extend", "nowhere", "--dry-run"], "cannot be combined with --dry-run"),
    ],
)
def test_what_does_not_fit_is_one_message(
    words: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = run("train", *words)
    assert result.exit_code == 2
    assert message in said(result) and "Traceback" not in result.output
    assert not (tmp_path / "runs").exists()


def test_a_folder_with_something_in_it_is_refused(finished_run: Path) -> None:
    result = run("train", *TINY, "--run-dir", finished_run)
    assert result.exit_code == 2 and "is not an empty folder" in said(result)


def test_a_model_that_is_not_there_is_named(tmp_path: Path) -> None:
    result = run("train", *TINY, "rewards.prompt.model=/no/model", "--run-dir", tmp_path / "run")
    assert result.exit_code == 2
    assert "/no/model" in said(result) and "LIKEWISE_TRACEBACK=1" in said(result)


def test_a_run_that_cannot_go_on_has_another_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def train(*_: object) -> None:
        raise TrainingError("no image had [every] reward")

    monkeypatch.setattr("likewise.api.train", train)
    result = run("train", *TINY, "--run-dir", tmp_path / "run")
    assert result.exit_code == 1
    assert "error: no image had [every] reward" in said(result)


def test_a_traceback_can_be_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIKEWISE_TRACEBACK", "1")
    result = run("train", "stikers")
    assert type(result.exception).__name__ == "RecipeError"


def test_a_dry_run_prints_recipe_and_plan_and_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = run("train", *TINY, "objective.kl=0.1", "run.iterations=3", "--dry-run")
    assert result.exit_code == 0, result.output
    for text in (
        "group_size: 2",
        "1 tasks × 2 samples = 2; 6 in all",
        "5 in the rollout",
        "of the frozen reference",
        "114,688",
        "time of the run about",
        "memory at least",
    ):
        assert text in said(result)
    assert not list(tmp_path.iterdir())
