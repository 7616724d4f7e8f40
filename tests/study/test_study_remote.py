"""Units on other machines: how they are watched, asked to stop, and launched again."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from likewise.config import Study
from likewise.study import executors, runner
from likewise.study.ray_tasks import Order, fitting, run_order
from likewise.study.remote_units import Notes
from likewise.study.runner import LOSSES, Launch, Runner
from likewise.study.slurm_steps import CUT_SHORT
from likewise.study.unit_jobs import Ended, ExecutorError, Resources
from likewise.study.units import Plan, Unit
from likewise.study.workers import Worker

linux = pytest.mark.skipif(sys.platform != "linux", reason="needs prctl")
SLOW = """
import signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(9))
print("ready", flush=True)
time.sleep(60)
"""


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    content = {
        "name": "small",
        "seeds": [0],
        "arms": {"ours": {"recipe": "stickers"}},
        "baseline": "ours",
    }
    plan = Plan(Study.model_validate(content), tmp_path / "out")
    plan.prepare(plan.units)
    return plan


def remote(folder: Path, code: str) -> tuple[subprocess.Popen[str], Notes]:
    """A command under the watch of `remote_units`."""
    notes = Notes.new(folder)
    words = [sys.executable, "-m", "likewise.study.remote_units", str(notes.path)]
    process = subprocess.Popen(
        [*words, sys.executable, "-c", code], stdout=subprocess.PIPE, text=True
    )
    wait_for(notes.started.exists)
    return process, notes


def wait_for(reached: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not reached():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@linux
def test_output_and_exit_code_come_through(tmp_path: Path) -> None:
    process, notes = remote(tmp_path, "import sys; print('here'); sys.exit(7)")
    assert process.communicate(timeout=60)[0] == "here\n" and process.returncode == 7
    notes.remove()
    assert not list(tmp_path.iterdir())


@linux
@pytest.mark.parametrize("how", ["note", "signal"])
def test_a_wish_to_stop_reaches_the_program(tmp_path: Path, how: str) -> None:
    process, notes = remote(tmp_path, SLOW)
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    if how == "note":
        notes.stop.touch()
    else:
        process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 9


def test_a_machine_without_the_folder_says_so(tmp_path: Path) -> None:
    order = Order(tmp_path, ("-c", ""), tmp_path / "logs" / "unit.txt", Notes.new(tmp_path), {})
    with pytest.raises(RuntimeError, match=r"unit\.txt: start the study in a folder that all"):
        run_order(order)


def test_another_version_of_likewise_is_refused(tmp_path: Path) -> None:
    notes = Notes.new(tmp_path)
    order = Order(tmp_path, ("-c", ""), tmp_path / "unit.txt", notes, {}, version="0.0.1")
    with pytest.raises(RuntimeError, match=r"the study was started with 0\.0\.1"):
        run_order(order)


def test_as_many_units_as_fit_into_machines() -> None:
    assert fitting({"CPU": 16.0, "GPU": 8.0}, 4, 1) == 4
    assert fitting({"CPU": 64.0, "GPU": 8.0}, 4, 2) == 4
    assert fitting({"CPU": 16.0}, 4, 0) == 4
    assert fitting({"CPU": 16.0}, 1, 1) == 0
    assert fitting({}, 1, 0) == 0


@pytest.mark.parametrize(
    "line",
    [
        "slurmstepd: error: *** STEP 7.0 ON n1 CANCELLED AT 2026-11-28T00:21:36 DUE TO TIME LIMIT",
        "slurmstepd: error: *** STEP 7.0 ON n1 CANCELLED AT 2026-11-28T00:21:36 DUE TO PREEMPTION",
        "srun: error: Node failure on n1",
    ],
)
def test_what_slurm_cut_short_is_known_by_its_words(line: str) -> None:
    assert CUT_SHORT.search(line)
    assert not CUT_SHORT.search("srun: error: n1: task 0: Exited with exit code 3")


class Losing:
    """An executor whose machines are lost again and again, before a unit ends with code 1."""

    def __init__(self, losses: int) -> None:
        self.workers, self.losses = [Worker("only")], losses
        self.started: list[Unit] = []

    def start(self, plan: Plan, unit: Unit, worker: Worker) -> LostJob:
        plan.log(unit).write_text("what it printed\n")
        self.started.append(unit)
        gone = len(self.started) <= self.losses
        return LostJob(unit, worker, Ended(1, 2.0, "node 3 is gone" if gone else ""))


class LostJob:
    resumed = asked_to_stop = False

    def __init__(self, unit: Unit, worker: Worker, end: Ended) -> None:
        self.unit, self.worker, self.end = unit, worker, end

    def ended(self) -> Ended:
        return self.end

    def stop(self) -> None:
        raise AssertionError

    kill = stop


@pytest.mark.parametrize(("losses", "launches"), [(2, 3), (99, LOSSES)])
def test_a_lost_unit_is_launched_again_some_times(
    plan: Plan, monkeypatch: pytest.MonkeyPatch, losses: int, launches: int
) -> None:
    monkeypatch.setattr(runner, "POLL", 0)
    executor, seen = Losing(losses), list[Launch]()
    run = Runner(plan, executor, lambda *_: None, seen.append)
    unit = Unit("train", "ours", 0)
    assert run.run([unit], [], lambda: False) == 1
    assert executor.started == [unit] * launches
    assert [one.end for one in seen] == [*["lost"] * (launches - 1), "failed"]
    assert seen[0].problem.startswith("train ours seed 0: node 3 is gone\n    what it printed\n")
    assert len(run.journal.read()) == launches


def test_resources_are_for_clusters(plan: Plan) -> None:
    with pytest.raises(ExecutorError, match="need --executor ray or slurm"):
        executors.build_executor("local", plan, Resources(gpus=1))


def test_a_cluster_that_is_not_there_is_named(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ExecutorError, match="there is no srun here"):
        executors.build_executor("slurm", plan, Resources())
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ExecutorError, match=r"pip install 'likewise\[ray\]'"):
        executors.build_executor("ray", plan, Resources())
