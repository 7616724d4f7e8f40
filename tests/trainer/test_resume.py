"""A run that is killed and resumed ends as if nothing had happened, in every bit."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path

import pytest
import runs

from likewise.api import resume, train
from likewise.config import Recipe
from likewise.records.checkpoints import CheckpointStore
from likewise.records.run_directory import RunDirectory, RunDirectoryError

# Files are on the disk a bit later than usual, so that a good part of a run is spent in writing.
SLOW_DISK = """
import os, time
sync = os.fsync
os.fsync = lambda handle: (time.sleep(0.01), sync(handle))[1]
"""


def recipe(
    model: Path,
    processes: int = 1,
    iterations: int = 5,
    objective: str = "grpo",
    gains: bool = False,
    gradients: str | None = None,
) -> Recipe:
    """Everything that has a state: moving average, schedule, random reward, best checkpoint."""
    return runs.tiny_recipe(
        model,
        rewards={
            "moody": runs.function("moody", "prompt"),
            "detail": runs.function("detail", "identity"),
        },
        objective=runs.OBJECTIVES[objective],
        credit=runs.GAINS if gains else {},
        rollout={"micro_batch": 3, "trained": {"kind": "random", "fraction": 0.6}},
        optimizer={
            "learning_rate": 3e-3,
            "schedule": "cosine",
            "warmup_steps": 2,
            "ema_decay": 0.9,
            "updates_per_iteration": 2,
            "gradients": runs.GRADIENTS.get(gradients or "", {}),
        },
        run={
            "processes": processes,
            "iterations": iterations,
            "evaluation": {"every": 2, "tasks": 2},
            "checkpoints": {"every": 2, "keep": 2},
        },
    )


@pytest.fixture(scope="module")
def undisturbed(
    launches: runs.Launches, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[dict[str, bytes], float]:
    """What a run of one process writes, and the seconds that it takes on a slow disk."""
    run_dir = tmp_path_factory.mktemp("undisturbed") / "run"
    started = time.monotonic()
    end = launches.run(run_dir, recipe(tiny_model), patch=SLOW_DISK)
    assert end["code"] == 0, end
    return runs.snapshot(run_dir), time.monotonic() - started


def assert_equal(run_dir: Path, wanted: dict[str, bytes]) -> None:
    got = runs.snapshot(run_dir)
    assert sorted(got) == sorted(wanted)
    assert [name for name in got if got[name] != wanted[name]] == []


def kill_and_resume(
    launches: runs.Launches, run_dir: Path, start: Recipe, delays: list[float], forks: int = 0
) -> None:
    """Kill the run after each of the delays in seconds, and let the last launch finish."""
    wanted: Recipe | None = start
    for delay in delays:
        pid = launches.start(run_dir, wanted, patch=SLOW_DISK, forks=forks)
        time.sleep(delay)
        launches.kill(pid)
        wanted = None if (run_dir / "recipe.yaml").exists() else start
    end = launches.run(run_dir, wanted, forks=forks)
    assert end["code"] == 0, end


def test_checkpoints_hold_all_of_the_state(undisturbed: tuple[dict[str, bytes], float]) -> None:
    """Every 2 iterations and at the end; of 2, 4 and 5 the newest two, and the best."""
    files, _ = undisturbed
    assert {"metrics.jsonl", "samples/000000.png", "samples/000004.png"} <= files.keys()
    assert [f"rewards/00000{i}.parquet" in files for i in range(1, 6)] == [True] * 5
    kept = {name.split("/")[1] for name in files if name.startswith("checkpoints/")}
    assert (
        {"iteration-000004", "iteration-000005"}
        <= kept
        <= {f"iteration-00000{i}" for i in (2, 4, 5)}
    )
    in_last = {name.split("/", 2)[2] for name in files if "iteration-000005/" in name}
    assert in_last == {
        "adapter/pytorch_lora_weights.safetensors",
        "average/pytorch_lora_weights.safetensors",
        "learner.safetensors",
        "learner.json",
        "manifest.json",
        "origin.json",
    }


# Seed, how often, and the earliest and latest moment of a kill as a share of a whole run.
KILLS = [
    (1, 3, 0.2, 0.8),
    pytest.param(2, 3, 0.2, 0.8, marks=pytest.mark.slow),
    *(pytest.param(seed, 8, 0.05, 0.6, marks=pytest.mark.slow) for seed in range(3, 11)),
]


@pytest.mark.parametrize(("seed", "kills", "earliest", "latest"), KILLS)
def test_killed_many_times(
    launches: runs.Launches,
    tiny_model: Path,
    undisturbed: tuple[dict[str, bytes], float],
    tmp_path: Path,
    seed: int,
    kills: int,
    earliest: float,
    latest: float,
) -> None:
    wanted, seconds = undisturbed
    delays = [
        random.Random(seed * 10 + i).uniform(earliest, latest) * seconds for i in range(kills)
    ]
    kill_and_resume(launches, tmp_path / "run", recipe(tiny_model), delays)
    assert_equal(tmp_path / "run", wanted)


@pytest.mark.slow
@pytest.mark.parametrize("forks", [2, 0], ids=["another launcher", "own launcher"])
def test_two_processes_killed_three_times(
    launches: runs.Launches, tiny_model: Path, tmp_path: Path, forks: int
) -> None:
    two = recipe(tiny_model, processes=2)
    started = time.monotonic()
    assert launches.run(tmp_path / "undisturbed", two, patch=SLOW_DISK, forks=forks)["code"] == 0
    seconds = time.monotonic() - started
    delays = [random.Random(i).uniform(0.5, 0.95) * seconds for i in range(3)]
    kill_and_resume(launches, tmp_path / "run", two, delays, forks)
    assert_equal(tmp_path / "run", runs.snapshot(tmp_path / "undisturbed"))


@pytest.mark.slow
def test_resume_before_any_checkpoint(
    launches: runs.Launches,
    tiny_model: Path,
    undisturbed: tuple[dict[str, bytes], float],
    tmp_path: Path,
) -> None:
    """The first iteration is in the metrics, and no checkpoint is there yet."""
    run_dir = tmp_path / "run"
    pid = launches.start(run_dir, recipe(tiny_model), patch=SLOW_DISK)
    wait_for(run_dir / "rewards" / "000001.parquet")
    launches.kill(pid)
    assert CheckpointStore(run_dir / "checkpoints", 1).newest() is None
    assert launches.run(run_dir)["code"] == 0
    assert_equal(run_dir, undisturbed[0])


def test_a_damaged_checkpoint_is_passed_over(
    tiny_model: Path, undisturbed: tuple[dict[str, bytes], float], tmp_path: Path
) -> None:
    run = train(recipe(tiny_model), tmp_path / "run", quiet=True).run
    newest = run.checkpoints / "iteration-000005" / "learner.safetensors"
    newest.write_bytes(newest.read_bytes()[:-1] + b"?")
    with pytest.warns(UserWarning, match=r"iteration-000005 is skipped: learner.safetensors has"):
        outcome = resume(run.path, quiet=True)
    assert (outcome.iteration, outcome.finished) == (5, True)
    assert_equal(run.path, undisturbed[0])


@pytest.mark.parametrize(
    "how",
    [
        *({"objective": name} for name in runs.ON_IMAGES),
        *({"gradients": name} for name in runs.GRADIENTS),
    ],
    ids=lambda how: next(iter(how.values())),
)
def test_runs_with_more_state_resume_in_every_bit(
    tiny_model: Path, tmp_path: Path, how: dict[str, str]
) -> None:
    """The old policy's weights, and the average of gradients' weights, are in the checkpoint."""
    resumes_in_every_bit(recipe(tiny_model, **how), tmp_path)


def test_gains_resume_in_every_bit(tiny_model: Path, tmp_path: Path) -> None:
    """Rewards that read global generators are asked about finished images too."""
    resumes_in_every_bit(recipe(tiny_model, gains=True), tmp_path)


def resumes_in_every_bit(start: Recipe, folder: Path) -> None:
    """After iteration 4, since the last checkpoint is damaged."""
    run = train(start, folder / "run", quiet=True).run
    wanted = runs.snapshot(run.path)
    newest = run.checkpoints / "iteration-000005" / "learner.safetensors"
    newest.write_bytes(newest.read_bytes()[:-1] + b"?")
    with pytest.warns(UserWarning, match="iteration-000005 is skipped"):
        resume(run.path, quiet=True)
    assert_equal(run.path, wanted)


def test_a_finished_run_stays_as_it_is(tiny_model: Path, tmp_path: Path) -> None:
    run = train(runs.tiny_recipe(tiny_model, run={"iterations": 1}), tmp_path / "run").run
    before = runs.snapshot(run.path)
    outcome = resume(run.path)
    assert (outcome.iteration, outcome.finished, outcome.signal) == (1, True, 0)
    assert runs.snapshot(run.path) == before


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_run_with_a_checkpoint(
    launches: runs.Launches,
    tiny_model: Path,
    undisturbed: tuple[dict[str, bytes], float],
    tmp_path: Path,
    number: int,
) -> None:
    run_dir = tmp_path / "run"
    pid = launches.start(run_dir, recipe(tiny_model), patch=SLOW_DISK)
    wait_for(run_dir / "rewards" / "000003.parquet")
    runs.send(pid, number)
    end = launches.wait(pid)
    assert end["code"] == 0
    assert end["outcome"]["signal"] == number
    assert end["outcome"]["iteration"] >= 3
    assert not end["outcome"]["finished"]
    rows = RunDirectory.open(run_dir).read_metrics()
    assert rows[-1]["iteration"] == end["outcome"]["iteration"]  # all of it is in the checkpoint
    assert resume(run_dir, quiet=True).finished
    assert_equal(run_dir, undisturbed[0])


def test_two_trainers_do_not_share_a_run(
    launches: runs.Launches, tiny_model: Path, tmp_path: Path
) -> None:
    run_dir = tmp_path / "run"
    pid = launches.start(run_dir, recipe(tiny_model, iterations=50))
    wait_for(run_dir / "rewards" / "000001.parquet")
    with pytest.raises(RunDirectoryError, match=f"in use: process {pid} trains there"):
        resume(run_dir)
    with pytest.raises(RunDirectoryError, match="--resume"):
        train(recipe(tiny_model), run_dir)
    launches.kill(pid)


# --- the run's own launcher ----------------------------------------------------------------------


@pytest.mark.slow
def test_ctrl_c_with_two_processes(
    launches: runs.Launches, tiny_model: Path, tmp_path: Path
) -> None:
    """A terminal sends it to the parent and to both workers."""
    two = recipe(tiny_model, processes=2)
    pid = launches.start(tmp_path / "run", two, patch=SLOW_DISK)
    wait_for(tmp_path / "run" / "rewards" / "000001.parquet")
    runs.send(pid, signal.SIGINT)
    end = launches.wait(pid)
    assert end["code"] == 0, end
    assert end["outcome"]["signal"] == signal.SIGINT
    assert 1 <= end["outcome"]["iteration"] < 5
    assert runs.gone(pid)

    assert launches.run(tmp_path / "run")["code"] == 0
    assert launches.run(tmp_path / "undisturbed", two)["code"] == 0
    assert_equal(tmp_path / "run", runs.snapshot(tmp_path / "undisturbed"))


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("delay", [1.0, 4.0, 8.0, 16.0])
def test_a_signal_while_two_processes_start(
    launches: runs.Launches, tiny_model: Path, tmp_path: Path, delay: float, number: int
) -> None:
    """However early it comes: no worker stays behind, and the run can be resumed, or started again.

    Before the run has begun, signals end the process as they end any other.
    """
    run_dir = tmp_path / "run"
    pid = launches.start(run_dir, recipe(tiny_model, 2, iterations=2000))
    time.sleep(delay)
    runs.send(pid, number)
    end = launches.wait(pid)
    assert runs.gone(pid)
    if end["code"] == 0:
        assert end["outcome"]["signal"] == number and not end["outcome"]["finished"]
    elif number == signal.SIGTERM:
        assert end == {"code": -signal.SIGTERM}
    else:
        assert end == {"code": 1, "error": ["KeyboardInterrupt", ""]}
    if CheckpointStore(run_dir / "checkpoints", 1).newest() is None:
        RunDirectory.check_free(run_dir)


@pytest.mark.slow
def test_workers_end_when_their_parent_is_killed(
    launches: runs.Launches, tiny_model: Path, tmp_path: Path
) -> None:
    run_dir = tmp_path / "run"
    pid = launches.start(run_dir, recipe(tiny_model, 2, iterations=200))
    wait_for(run_dir / "rewards" / "000001.parquet")
    os.kill(pid, signal.SIGKILL)
    assert launches.wait(pid)["code"] == -signal.SIGKILL
    assert runs.gone(pid)
    newest = CheckpointStore(run_dir / "checkpoints", 1).newest()
    assert newest is not None
    assert newest.iteration == RunDirectory.open(run_dir).read_metrics()[-1]["iteration"]


@pytest.mark.slow
@pytest.mark.parametrize("where", ["every worker", "one worker"])
def test_a_worker_that_cannot_start_is_one_clear_error(
    launches: runs.Launches, tiny_model: Path, tmp_path: Path, where: str
) -> None:
    everywhere = where == "every worker"
    broken = runs.tiny_recipe(
        "/nowhere/model" if everywhere else tiny_model,
        rewards={"one": runs.function("only_in_first", "prompt")},
        credit={"shaping": {"kind": "none"}, "time_weights": {"kind": "constant"}},
        run={"processes": 2},
    )
    pid = launches.start(tmp_path / "run", broken)
    end = launches.wait(pid)
    assert end["code"] == 1, end
    kind, message = end["error"]
    assert kind in ("OSError", "ValueError", "HFValidationError", "FileNotFoundError"), end
    assert ("/nowhere/model" if everywhere else "rewards.one.target") in message
    assert runs.gone(pid)


def wait_for(file: Path, seconds: float = runs.PATIENCE) -> None:
    deadline = time.monotonic() + seconds
    while not file.exists():
        assert time.monotonic() < deadline, f"{file} did not appear"
        time.sleep(0.01)
