"""Workers of one run: they end with their parent, and say in one line why they ended."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import launching
import psutil
import pytest

from likewise.trainer.checks import TrainingError
from likewise.trainer.launch import launch


@pytest.mark.parametrize(
    ("worker", "message"),
    [
        (launching.one_is_killed, "process 1 of 2 was killed (SIGKILL), probably because the"),
        (launching.one_exits, "process 1 of 2 was ended with exit code 3; go on"),
    ],
)
def test_a_worker_that_ends_is_one_line(worker: Callable[[], None], message: str) -> None:
    with pytest.raises(TrainingError) as caught:
        launch(2, worker, remedy="go on with: likewise train --resume runs/mine")
    said = str(caught.value)
    assert message in said and said.endswith("--resume runs/mine") and "\n" not in said


def test_workers_leave_ctrl_c_to_their_parent() -> None:
    """A terminal sends SIGINT to all; a worker that still imports would die with a traceback."""
    assert launch(2, launching.holds_ctrl_c_back) == 0
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, [])  # only theirs


def test_workers_end_however_early_their_parent_dies() -> None:
    """Killed before its workers have even imported torch."""
    code = "import launching; from likewise.trainer.launch import launch\n"
    code += "if __name__ == '__main__': launch(2, launching.sleeps)"
    path = os.pathsep.join([str(Path(__file__).parent), *filter(None, sys.path)])
    parent = psutil.Popen([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": path})
    try:
        workers = _wait_for(lambda: _workers(parent), 240)
    finally:
        parent.send_signal(signal.SIGKILL)
        parent.wait()
    _, alive = psutil.wait_procs(workers, timeout=240)
    for process in alive:
        process.kill()
    assert not alive


def _workers(parent: psutil.Popen) -> list[psutil.Process]:
    """Both, once they are there."""
    assert parent.poll() is None
    found = [child for child in parent.children() if "spawn_main" in " ".join(child.cmdline())]
    return found if len(found) == 2 else []


def _wait_for(look: Callable[[], list[psutil.Process]], seconds: float) -> list[psutil.Process]:
    deadline = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < deadline, "no workers"
        time.sleep(0.02)
    return found
