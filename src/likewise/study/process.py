"""Units as processes of this machine."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path

from likewise.study.unit_jobs import Ended
from likewise.study.units import Plan, Unit
from likewise.study.workers import Worker

LIKEWISE = (sys.executable, "-m", "likewise")  # what a unit's words are given to


class LocalExecutor:
    """A process for each unit, on a core or GPU of this machine."""

    def __init__(self, workers: Sequence[Worker]) -> None:
        self.workers = workers

    def start(self, plan: Plan, unit: Unit, worker: Worker) -> Process:
        return Process(plan, unit, worker)


class Process:
    """One unit's process, in a group of its own: Ctrl-C reaches it by `stop` alone.

    Args:
        launcher: Words that start a command elsewhere and wait for it; none: here.
    """

    def __init__(
        self, plan: Plan, unit: Unit, worker: Worker, launcher: Sequence[str] = ()
    ) -> None:
        self.unit, self.worker, self.log = unit, worker, plan.log(unit)
        self.resumed = plan.state(unit) == "started"
        self.began, self.asked_to_stop = time.monotonic(), False
        words = plan.words(unit)
        name_command(self.log, words)
        self.process = start_child(
            [*launcher, *LIKEWISE, *words], self.log, worker.environment, worker.core
        )

    def ended(self) -> Ended | None:
        code = self.process.poll()
        return None if code is None else Ended(code, time.monotonic() - self.began)

    def stop(self) -> None:
        """Once: a second signal would end a run before its checkpoint is written."""
        if not self.asked_to_stop:
            self.process.terminate()
        self.asked_to_stop = True

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


def start_child(
    command: Sequence[str],
    log: Path | None,
    environment: Mapping[str, str],
    core: int | None = None,
) -> subprocess.Popen[bytes]:
    """A process that dies with the thread that calls this.

    Args:
        log: Where its output goes; None: where this process's does.
        environment: What it finds beside what this process has.
        core: The CPU core that it stays on; None: any.
    """
    place = "-" if core is None else str(core)
    prefix = [sys.executable, "-m", "likewise.study.child", str(os.getpid()), place]
    with log.open("ab") if log else nullcontext() as output:
        return subprocess.Popen(
            [*prefix, *command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **environment},
            process_group=0,
        )


def name_command(log: Path, words: Sequence[str]) -> None:
    """Begin a launch's part of the log with its command."""
    append(log, f"$ likewise {shlex.join(words)}\n")


def append(log: Path, text: str) -> None:
    with log.open("a", encoding="utf-8") as file:
        file.write(text)


def tail(log: Path, lines: int = 12) -> str:
    """The last lines of a log, indented."""
    text = log.read_text(encoding="utf-8", errors="replace").splitlines()
    return "".join(f"    {line}\n" for line in text[-lines:])
