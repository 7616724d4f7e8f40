"""Units as steps of Slurm, by its own ``srun``."""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Sequence
from dataclasses import replace

from likewise.study.process import Process
from likewise.study.remote_units import Notes
from likewise.study.unit_jobs import Ended, ExecutorError, Resources
from likewise.study.units import BASE_UNIT, Plan, Unit
from likewise.study.workers import Worker

# How Slurm ends what could go on elsewhere, or in another job of limited time.
CUT_SHORT = re.compile(r"DUE TO (TIME LIMIT|PREEMPTION|NODE FAILURE)|\bNode failure\b")


class SlurmExecutor:
    """An ``srun`` for each unit: it waits for a machine, and ends as the unit does."""

    def __init__(self, workers: Sequence[Worker], srun: Sequence[str]) -> None:
        self.workers, self.srun = workers, srun

    @classmethod
    def find(cls, plan: Plan, resources: Resources) -> SlurmExecutor:
        """The executor of the cluster that ``srun`` speaks to.

        Raises:
            ExecutorError: there is no ``srun``.
        """
        program = shutil.which("srun")
        if program is None:
            raise ExecutorError("there is no srun here: --executor slurm needs Slurm's commands")
        gpus = resources.gpus
        if gpus is None:
            gpus = int(plan.recipe(BASE_UNIT).run.device != "cpu")
        words = [program, "--nodes=1", "--ntasks=1", "--exact", f"--cpus-per-task={resources.cpus}"]
        words += [f"--gpus-per-node={gpus}"] if gpus else []
        environment = {"OMP_NUM_THREADS": str(resources.cpus)}
        count = plan.study.workers
        if count == "auto":  # Slurm keeps what does not fit waiting
            count = 1 + len(plan.study.arms) * len(plan.study.seeds)
        workers = [Worker(f"Slurm {n + 1}", None, environment) for n in range(count)]
        return cls(workers, words)

    def start(self, plan: Plan, unit: Unit, worker: Worker) -> SlurmStep:
        return SlurmStep(plan, unit, worker, self.srun)


class SlurmStep(Process):
    """One unit's ``srun``, a process of this machine that stands for the one elsewhere."""

    def __init__(self, plan: Plan, unit: Unit, worker: Worker, srun: Sequence[str]) -> None:
        self.notes = Notes.new(plan.log(unit).absolute().parent)
        name = f"--job-name={plan.study.name}: {unit}"
        remote = [sys.executable, "-m", "likewise.study.remote_units", str(self.notes.path)]
        self.from_here = plan.log(unit).stat().st_size if plan.log(unit).exists() else 0
        super().__init__(plan, unit, worker, [*srun, name, *remote])

    def ended(self) -> Ended | None:
        """Lost, if Slurm says so in the log, whatever the exit code: 0 where a node has failed."""
        found = super().ended()
        if found is None:
            return None
        self.notes.remove()
        with self.log.open("rb") as log:
            log.seek(self.from_here)
            cut = CUT_SHORT.search(log.read().decode("utf-8", "replace"))
        return replace(found, lost=f"Slurm: {cut[0]}") if cut else found

    def stop(self) -> None:
        """What waits for a machine waits no more; else the training is asked for a checkpoint."""
        if not self.asked_to_stop:
            self.notes.stop.touch()
            if not self.notes.started.exists():
                self.process.terminate()
        self.asked_to_stop = True

    def kill(self) -> None:
        """By SIGTERM, at which ``srun`` kills what it started; it cannot after SIGKILL."""
        self.process.terminate()
        self.process.wait()
        self.notes.remove()
