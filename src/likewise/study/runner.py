"""Units side by side: as many at a time as there are workers, each crash its own."""

from __future__ import annotations

import signal
import time
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Literal

from likewise.study.journal import Journal
from likewise.study.process import tail
from likewise.study.unit_jobs import Ended, Executor, Job
from likewise.study.units import Plan, Unit
from likewise.study.workers import Worker

POLL = 0.1  # seconds between looks at the jobs
LOSSES = 5  # machines that a unit may lose before it counts as failed


@dataclass(frozen=True)
class Launch:
    """How a launch of a unit ended.

    Attributes:
        end: ``stopped`` is not a failure: the unit goes on another time; ``lost``: it is launched
            again at once, as the machine under it was.
        problem: What is wrong, with the end of the log; empty for a unit that is finished.
    """

    unit: Unit
    seconds: float
    end: Literal["finished", "stopped", "lost", "failed"]
    problem: str = ""


class Runner:
    """Runs units of a plan.

    Args:
        started, ended: Called as units start, and as they end.
    """

    def __init__(
        self,
        plan: Plan,
        executor: Executor,
        started: Callable[[Unit, Worker], None],
        ended: Callable[[Launch], None],
    ) -> None:
        self.plan, self.executor = plan, executor
        self.started, self.ended = started, ended
        self.idle = list(executor.workers)
        self.running: list[Job] = []
        self.finished: set[Unit] = set()
        self.losses: Counter[Unit] = Counter()
        self.journal = Journal(plan)

    def run(
        self, units: Sequence[Unit], finished: Collection[Unit], stopped: Callable[[], bool]
    ) -> int:
        """Do the units in order, an evaluation once its run is finished; how many failed.

        A unit that fails leaves the others alone; what needs it is left out. One whose machine is
        lost is launched again. Call it from the main thread: processes die with the thread that
        started them.

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
                    if launch.end == "lost":
                        waiting.insert(0, launch.unit)
                    self.ended(launch)
        finally:
            for job in self.running:
                job.kill()

    def _start(self, waiting: list[Unit]) -> None:
        """Give every idle worker the first unit that can start."""
        while self.idle:
            unit = next((each for each in waiting if self._is_ready(each)), None)
            if unit is None:
                return
            waiting.remove(unit)
            worker = self.idle.pop(0)
            self.running.append(self.executor.start(self.plan, unit, worker))
            self.started(unit, worker)

    def _is_ready(self, unit: Unit) -> bool:
        return unit.needs is None or unit.needs in self.finished

    def _reap(self) -> list[Launch]:
        """Launches that have ended; their workers are idle again."""
        launches = []
        for job in list(self.running):
            ended = job.ended()
            if ended is None:
                continue
            self.running.remove(job)
            self.idle.append(job.worker)
            launches.append(self._launch(job, ended))
        return launches

    def _launch(self, job: Job, ended: Ended) -> Launch:
        unit, code = job.unit, ended.code
        self.journal.add(unit, ended.seconds, code, job.resumed)
        if code == 0 and self.plan.state(unit) == "finished":
            self.finished.add(unit)
            return Launch(unit, ended.seconds, "finished")
        how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        log = self.plan.log(unit)
        problem = f"{unit}: {ended.lost or how}\n{tail(log)}(all of it: {log})"
        if job.asked_to_stop:
            return Launch(unit, ended.seconds, "stopped", problem)
        self.losses[unit] += bool(ended.lost)
        again = ended.lost and self.losses[unit] < LOSSES
        return Launch(unit, ended.seconds, "lost" if again else "failed", problem)

    def _stop(self) -> None:
        for job in self.running:
            job.stop()
