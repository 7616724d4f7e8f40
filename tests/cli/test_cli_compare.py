"""`likewise compare` from start to end: real processes, whose units are a stand-in without models.

The last test has real ones.
"""

from __future__ import annotations

import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from subprocess import Popen

import pytest
from comparing import STUDY, ended, finish, of_study, results, start, timeless, until, write_study
from running import run, said
from running import start as real

from likewise.config import load_recipe
from likewise.records import CheckpointStore, RunDirectory
from likewise.records.locks import exclusive

TWO = STUDY.replace("seeds: [0, 1]", "seeds: [0]")  # arms
DONE = [*(f"{kind} {arm} seed 0" for kind in ("train", "evaluate") for arm in ("ours", "naive"))]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished study of two arms and one seed. Tests must not change it."""
    folder = tmp_path_factory.mktemp("studies")
    code, output = finish(write_study(folder, TWO), folder / "out")
    assert code == 0, output
    assert "evaluate base: " in output and "all tables: " in output
    return folder / "out"


def unfinished(undisturbed: Path, folder: Path, *gone: str) -> tuple[Path, Path]:
    """The study, and a folder in which it is finished but for what is `gone`."""
    out = folder / "out"
    shutil.copytree(undisturbed, out)
    for name in ("results.json", "results.md"):
        (out / name).unlink()
    for name in gone:
        shutil.rmtree(out / "runs" / name)
    return write_study(folder, TWO), out


def kill(process: Popen[str], out: Path) -> None:
    """SIGKILL to `compare` alone; its units must be gone soon."""
    process.kill()
    process.communicate()
    deadline = time.monotonic() + 10
    while of_study(out):
        assert time.monotonic() < deadline, "units linger"
        time.sleep(0.02)


def finished_files(out: Path, last: int = 3) -> dict[Path, tuple[int, bytes]]:
    """Of trainings and evaluations that are over: when they were written, and what they hold."""
    files = list(out.rglob("summary.json"))
    for checkpoint in out.rglob(f"iteration-{last:06d}"):
        run_dir = checkpoint.parents[1]
        files += [run_dir / name for name in ("log.txt", "metrics.jsonl", "recipe.yaml")]
    return {file: (file.stat().st_mtime_ns, file.read_bytes()) for file in files}


def test_a_study_from_start_to_end(undisturbed: Path) -> None:
    found = results(undisturbed)
    assert found["missing"] == [] and list(found["arms"]) == ["ours", "naive"]
    assert found["arms"]["ours"]["versus"].keys() == set(found["metrics"])
    assert (undisturbed / "results.md").read_text().startswith("# tiny\n")
    logs = {file.name for file in (undisturbed / "logs").glob("*.txt")}
    assert logs == {f"{name.replace(' ', '-')}.txt" for name in ["evaluate base", *DONE]}
    log = (undisturbed / "logs" / "train-ours-seed-0.txt").read_text()
    assert log.startswith("$ likewise train stickers --run-dir ")


def test_a_finished_study_is_not_done_again(undisturbed: Path, tmp_path: Path) -> None:
    before = finished_files(undisturbed)
    study = write_study(tmp_path, TWO)
    assert len(before) == 3 + 2 * 3
    result = run("compare", study, "--out", undisturbed)
    assert result.exit_code == 0 and "evaluate base" not in result.output
    assert finished_files(undisturbed) == before
    only = run("compare", study, "--out", undisturbed, "--only", "results")
    assert only.exit_code == 0 and "differences to naive, paired" in said(only)


def test_one_run_can_be_repeated_alone(undisturbed: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    code, output = finish(write_study(tmp_path), out, "--arm", "naive", "--seed", "0")
    assert code == 0 and "7 of 9 units are missing" in output, output
    assert list(results(out)["arms"]) == ["naive"]
    again, first = (results(folder)["arms"]["naive"]["metrics"] for folder in (out, undisturbed))
    assert again and again == first
    code, output = finish(write_study(tmp_path), out, "--seed", "1", "--dry-run")
    assert "4 of 9 units to do" in output


def test_an_arm_or_seed_that_is_not_there_is_named(tmp_path: Path) -> None:
    study = write_study(tmp_path)
    wrong = run("compare", study, "--arm", "nave", "--out", tmp_path / "out")
    assert wrong.exit_code == 2 and "--arm nave: not in tiny; did you mean 'naive'?" in said(wrong)
    wrong = run("compare", study, "--seed", "7", "--out", tmp_path / "out")
    assert wrong.exit_code == 2 and "not in tiny, whose seeds are 0, 1" in said(wrong)
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="needs prctl")
def test_a_study_killed_at_several_moments_ends_alike(undisturbed: Path, tmp_path: Path) -> None:
    study, out = write_study(tmp_path, TWO), tmp_path / "out"
    seed = out / "runs" / "ours" / "seed-0"
    moments: list[Callable[[], bool]] = [
        (out / "logs" / "train-ours-seed-0.txt").is_file,
        (seed / "metrics.jsonl").is_file,
        (seed / "evaluation").is_dir,
    ]
    for moment in moments:
        process = start(study, out, STANDIN_SECONDS="0.2")
        until(moment, process)
        kill(process, out)
        before = finished_files(out)
    code, output = finish(study, out)
    assert code == 0, output
    after = finished_files(out)
    assert before and {file: after[file] for file in before} == before
    assert timeless(out) == timeless(undisturbed)
    for arm in ("ours", "naive"):  # no iteration after a checkpoint was done twice
        log = (out / "runs" / arm / "seed-0" / "log.txt").read_text().split()
        assert log[-6:] == ["iteration", "1", "iteration", "2", "iteration", "3"]


def test_a_signal_stops_units_where_the_same_command_resumes(
    undisturbed: Path, tmp_path: Path
) -> None:
    study, out = unfinished(undisturbed, tmp_path, "ours")
    process = start(study, out, STANDIN_SECONDS="0.5")
    run_dir = out / "runs" / "ours" / "seed-0"
    until((run_dir / "metrics.jsonl").is_file, process)
    process.send_signal(signal.SIGINT)
    code, output = ended(process)
    assert code == 128 + signal.SIGINT, output
    assert "train ours seed 0: stopped" in output and "go on with the same command" in output
    assert "failed" not in output
    assert CheckpointStore(run_dir / "checkpoints", 1).newest() is not None
    assert not of_study(out) and not (out / "results.json").exists()
    code, output = finish(study, out)
    assert code == 0, output
    assert "train --resume" in (out / "logs" / "train-ours-seed-0.txt").read_text()
    assert timeless(out) == timeless(undisturbed)


def test_a_unit_that_fails_leaves_the_others_alone(undisturbed: Path, tmp_path: Path) -> None:
    study, out = unfinished(undisturbed, tmp_path, "ours", "naive/seed-0/evaluation")
    code, output = finish(study, out, STANDIN_FAILS="runs/ours/seed-0")
    assert code == 1 and "evaluate naive seed 0: " in output
    assert "failed: train ours seed 0: exit code 3" in output
    assert "$ likewise train stickers" in output
    assert "the machine is on fire (all of it: " in output
    assert "units that failed: 1; the same command tries them again" in output
    assert results(out)["missing"] == ["train ours seed 0", "evaluate ours seed 0"]
    assert list(results(out)["arms"]) == ["naive"]
    code, output = finish(study, out, "--only", "train")
    assert code == 0 and "train ours seed 0: " in output
    assert results(out)["missing"] == ["evaluate ours seed 0"]
    shown = run("compare", study, "--out", out, "--dry-run", "--only", "train")
    assert "0 of 5 units to do" in said(shown)


def test_a_dry_run_says_what_is_to_do_and_writes_nothing(tmp_path: Path) -> None:
    study, out = write_study(tmp_path), tmp_path / "out"
    result = run("compare", study, "--out", out, "--dry-run")
    assert result.exit_code == 0
    assert "train naive seed 1 new ?" in said(result)
    assert "9 of 9 units to do, in ?, on " in said(result)
    assert not out.exists()


def test_two_at_a_time_are_refused(tmp_path: Path) -> None:
    study, out = write_study(tmp_path), tmp_path / "out"
    out.mkdir()
    with exclusive(out / ".lock", RuntimeError):
        result = run("compare", study, "--out", out)
    assert result.exit_code == 2 and "works on this study" in said(result)


def test_runs_of_something_else_are_refused(tmp_path: Path) -> None:
    study, out = write_study(tmp_path), tmp_path / "out"
    RunDirectory.create(
        out / "runs" / "ours" / "seed-0", load_recipe("stickers", ["run.trackers=[]"]), {}
    )
    for words in ([], ["--dry-run"]):
        result = run("compare", study, "--out", out, *words)
        assert result.exit_code == 2
        message = "is another run than the study plans: run.iterations is 24, not 3: move it away"
        assert message in said(result)


def test_results_of_nothing_are_refused(tmp_path: Path) -> None:
    result = run("compare", write_study(tmp_path), "--out", tmp_path / "x", "--only", "results")
    assert result.exit_code == 2 and "there is no folder" in said(result)


def test_an_unknown_study_is_named() -> None:
    result = run("compare", "stickers-ablatio")
    assert result.exit_code == 2 and "did you mean 'stickers-ablation'?" in said(result)


REAL = """
name: real
overrides:
  run: {iterations: 2, evaluation: {every: 0}, checkpoints: {every: 1, keep: 1}, trackers: []}
  run.device: cpu
  rollout: {tasks: 1, group_size: 2, num_steps: 3, trained: {size: 1}}
seeds: [0, 1]
arms: {ours: {recipe: stickers}, naive: {recipe: stickers-naive}}
baseline: naive
evaluation: {tasks: 2}
"""


@pytest.mark.slow
def test_a_real_study_killed_in_the_middle_ends_alike(tmp_path: Path) -> None:
    study = write_study(tmp_path, REAL)

    def begin(name: str) -> Popen[str]:
        return real("compare", study, "--out", tmp_path / name)

    code, output = ended(begin("calm"), 1200)
    assert code == 0, output
    seed = tmp_path / "killed" / "runs" / "ours" / "seed-0"
    moments: list[Callable[[], bool]] = [
        (seed / "metrics.jsonl").is_file,
        lambda: any((seed / "evaluation" / "study").rglob("*.png")),
        lambda: len(list((tmp_path / "killed").rglob("summary.json"))) >= 3,
    ]
    for moment in moments:
        process = begin("killed")
        until(moment, process, 600)
        kill(process, tmp_path / "killed")
        before = finished_files(tmp_path / "killed", last=2)
    code, output = ended(begin("killed"), 1200)
    assert code == 0, output
    after = finished_files(tmp_path / "killed", last=2)
    assert before and {file: after[file] for file in before} == before
    assert timeless(tmp_path / "killed") == timeless(tmp_path / "calm")
    found = results(tmp_path / "calm")
    assert found["missing"] == [] and found["arms"]["ours"]["seeds"] == [0, 1]
    assert {"evaluator/identity", "evaluator/prompt", "reward/prompt"} <= set(found["metrics"])
    assert found["arms"]["ours"]["overhead"]["relative"].keys() >= {"rollout", "update", "total"}
