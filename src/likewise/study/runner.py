"""Units as processes: as many at a time as there are workers, each crash its own."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Literal

from likewise.study.journal import Journal
from likewise.study.process import Process, tail
from likewise.study.units import Plan, Unit
from likewise.study.workers import Worker

POLL = 0.1  # seconds between looks at the processes


@dataclass(frozen=True)
class Launch:
    """How a unit's process ended.

    Attributes:
        end: ``stopped`` is no failure: the unit goes on another time.
        problem: What is wrong, with the end of the log; empty for a unit that is finished.
    """

    unit: Unit
    seconds: float
    end: Literal["finished", "stopped", "failed"]
    problem: str = ""


class Runner:
    """Runs units of a plan.

    Args:
        started, ended: Called as units start, and as they end.
    """

    def __init__(
        self,
        plan: Plan,
        workers: Sequence[Worker],
        started: Callable[[Unit, Worker], None],
        ended: Callable[[Launch], None],
    ) -> None:
        self.plan, self.started, self.ended = plan, started, ended
        self.idle = list(workers)
        self.running: list[Process] = []
        self.finished: set[Unit] = set()
        self.journal = Journal(plan)

    def run(
        self, units: Sequence[Unit], finished: Collection[Unit], stopped: Callable[[], bool]
    ) -> int:
        """Do the units in order, an evaluation once its run is finished; how many failed.

        A unit that fails leaves the others alone; what needs it is left out. Call it from the main
        thread: processes die with the thread that started them.

        Args:
            units: To do.
            finished: Done already, so that what needs them can start.
            stopped: Once true, no unit starts, and running ones get SIGTERM: trainings write a
                checkpoint.
        """
        waiting = list(units)
        failed = 0
        self.finished |= set(finished)
        try:
            while True:
                if stopped():
                    self._stop()
                else:
                    self._start(waiting)
                if not self.running:
                    return failed
                time.sleep(POLL)
                for launch in self._reap():
                    failed += launch.end == "failed"
                    self.ended(launch)
        finally:
            for process in self.running:
                process.kill()

    def _start(self, waiting: list[Unit]) -> None:
        """Give every idle worker the first unit that can start."""
        while self.idle:
            unit = next((each for each in waiting if self._is_ready(each)), None)
            if unit is None:
                return
            waiting.remove(unit)
            worker = self.idle.pop(0)
            self.running.append(Process(self.plan, unit, worker))
            self.started(unit, worker)

    def _is_ready(self, unit: Unit) -> bool:
        return unit.needs is None or unit.needs in self.finished

    def _reap(self) -> list[Launch]:
        """Launches that have ended; their workers are idle again."""
        launches = []
        for process in list(self.running):
            if process.code is None:
                continue
            self.running.remove(process)
            self.idle.append(process.worker)
            launches.append(self._launch(process, process.code))
        return launches

    def _launch(self, process: Process, code: int) -> Launch:
        unit, seconds = process.unit, process.seconds
        self.journal.add(unit, seconds, code, process.resumed)
        if code == 0 and self.plan.state(unit) == "finished":
            self.finished.add(unit)
            return Launch(unit, seconds, "finished")
        how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        problem = f"{unit}: {how}\n{tail(process.log)}(all of it: {process.log})"
        return Launch(unit, seconds, "stopped" if process.asked_to_stop else "failed", problem)

    def _stop(self) -> None:
        for process in self.running:
            process.stop()
