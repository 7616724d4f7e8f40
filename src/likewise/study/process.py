"""One unit as a process."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import time
from pathlib import Path

from likewise.study.units import Plan, Unit
from likewise.study.workers import Worker

LIKEWISE = (sys.executable, "-m", "likewise")  # what a unit's words are given to


class Process:
    """One unit's process, in a group of its own: Ctrl-C reaches it by `stop` alone."""

    def __init__(self, plan: Plan, unit: Unit, worker: Worker) -> None:
        self.unit, self.worker, self.log = unit, worker, plan.log(unit)
        self.resumed = plan.state(unit) == "started"
        self.began, self.asked_to_stop = time.monotonic(), False
        words = plan.words(unit)
        core = "-" if worker.core is None else str(worker.core)
        prefix = [sys.executable, "-m", "likewise.study.child", str(os.getpid()), core]
        with self.log.open("ab") as log:
            log.write(f"$ likewise {shlex.join(words)}\n".encode())
            log.flush()
            self.process = subprocess.Popen(
                [*prefix, *LIKEWISE, *words],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, **worker.environment},
                process_group=0,
            )

    @property
    def code(self) -> int | None:
        """None while it runs."""
        return self.process.poll()

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.began

    def stop(self) -> None:
        """Once: a second signal would end a run before its checkpoint is written."""
        if not self.asked_to_stop:
            self.process.terminate()
        self.asked_to_stop = True

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


def tail(log: Path, lines: int = 12) -> str:
    """The last lines of a log, indented."""
    text = log.read_text(encoding="utf-8", errors="replace").splitlines()
    return "".join(f"    {line}\n" for line in text[-lines:])
