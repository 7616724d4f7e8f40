"""Units as tasks of a Ray cluster (extra ``ray``)."""

from __future__ import annotations

import logging
import os
import socket
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from likewise import __version__
from likewise.study import process
from likewise.study.remote_units import Notes, OrphanedError, attend
from likewise.study.unit_jobs import Ended, ExecutorError, Resources
from likewise.study.units import BASE_UNIT, Plan, Unit
from likewise.study.workers import Worker


@dataclass(frozen=True)
class Order:
    """All that a machine of the cluster has to know to launch a unit.

    Attributes:
        folder: Where the command is given: paths of recipes and of the study may be relative.
        words: After the interpreter's own name, which may be another one there.
        version: Of likewise, where the study was started.
    """

    folder: Path
    words: tuple[str, ...]
    log: Path
    notes: Notes
    environment: Mapping[str, str]
    version: str = __version__


def run_order(order: Order) -> tuple[int, float]:
    """Exit code and seconds of the unit's process; this runs on a machine of the cluster.

    Raises:
        RuntimeError: the machine lacks the study's folder, or has another version of likewise.
    """
    here = socket.gethostname()
    if order.version != __version__:
        raise RuntimeError(
            f"{here} has likewise {__version__}, and the study was started with {order.version}"
        )
    if not (order.folder.is_dir() and order.log.is_file()):
        raise RuntimeError(
            f"{here} has no {order.log}: start the study in a folder that all machines share"
        )
    began = time.monotonic()
    os.chdir(order.folder)
    command = [sys.executable, *order.words]
    try:
        code = attend(command, order.log, order.environment, order.notes)
    except OrphanedError:  # Ray may not have noticed yet, and would send the next task here
        os._exit(1)
    return code, time.monotonic() - began


class RayExecutor:
    """Asks Ray for CPUs and GPUs for each unit, and lets it choose the machine."""

    def __init__(self, workers: Sequence[Worker], resources: Resources, gpus: int) -> None:
        self.workers, self.cpus, self.gpus = workers, resources.cpus, gpus

    @classmethod
    def connect(cls, plan: Plan, resources: Resources) -> RayExecutor:
        """The executor of the cluster that RAY_ADDRESS names, or that this machine belongs to.

        Raises:
            ExecutorError: Ray is not installed, there is no cluster, or no unit fits in it.
        """
        ray = _import_ray()
        try:
            ray.init(
                os.environ.get("RAY_ADDRESS", "auto"),
                log_to_driver=False,
                logging_level=logging.ERROR,
                ignore_reinit_error=True,
            )
        except (ConnectionError, ValueError) as error:
            raise ExecutorError(
                "there is no Ray cluster here: `ray start --head` begins one, RAY_ADDRESS names "
                "another"
            ) from error
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        device = plan.recipe(BASE_UNIT).run.device
        gpus = resources.gpus
        if gpus is None:
            gpus = int(device != "cpu" and any(node.get("GPU", 0) for node in nodes))
        count = plan.study.workers
        if count == "auto":
            count = sum(fitting(node, resources.cpus, gpus) for node in nodes)
        if count == 0:
            raise ExecutorError(
                f"no machine of the Ray cluster has {resources.cpus} CPUs and {gpus} GPUs, which "
                "each unit is to have: ask for less by --cpus and --gpus, or set `workers` in the "
                "study if the cluster grows when asked"
            )
        return cls([Worker(f"Ray {n + 1}") for n in range(count)], resources, gpus)

    def start(self, plan: Plan, unit: Unit, worker: Worker) -> RayJob:
        return RayJob(plan, unit, worker, self.cpus, self.gpus)


def fitting(node: Mapping[str, float], cpus: int, gpus: int) -> int:
    """How many units fit into a machine at a time."""
    by_gpus = [int(node.get("GPU", 0) // gpus)] if gpus else []
    return min([int(node.get("CPU", 0) // cpus), *by_gpus])


class RayJob:
    """One unit's task; Ray itself tries none again, as another launch has another command."""

    def __init__(self, plan: Plan, unit: Unit, worker: Worker, cpus: int, gpus: int) -> None:
        self.unit, self.worker, self.log = unit, worker, plan.log(unit).absolute()
        self.resumed = plan.state(unit) == "started"
        self.asked_to_stop = False
        self.began = time.monotonic()
        self.notes = Notes.new(self.log.parent)
        words = plan.words(unit)
        process.name_command(self.log, words)
        environment = {"OMP_NUM_THREADS": str(cpus)}
        if not gpus:
            environment["CUDA_VISIBLE_DEVICES"] = ""
        program = (*process.LIKEWISE[1:], *words)
        order = Order(Path.cwd(), program, self.log, self.notes, environment)
        task = _import_ray().remote(run_order)
        asked = task.options(num_cpus=cpus, num_gpus=gpus, max_retries=0, name=str(unit))
        self.reference = asked.remote(order)

    def ended(self) -> Ended | None:
        ray = _import_ray()
        if not ray.wait([self.reference], timeout=0)[0]:
            return None
        self.notes.remove()
        try:
            code, seconds = ray.get(self.reference)
            return Ended(code, seconds)
        except ray.exceptions.RayError as error:
            return self._unfinished(ray, error)

    def stop(self) -> None:
        """A task that has not begun is cancelled; else its training is asked for a checkpoint."""
        if not self.asked_to_stop:
            self.notes.stop.touch()
            if not self.notes.started.exists():
                _import_ray().cancel(self.reference)
        self.asked_to_stop = True

    def kill(self) -> None:
        _import_ray().cancel(self.reference, force=True)
        self.notes.remove()

    def _unfinished(self, ray: Any, error: Exception) -> Ended:
        """Without exit code: the machine is gone, the task was cancelled, or it found a problem."""
        seconds = time.monotonic() - self.began
        process.append(self.log, f"{error}\n")
        gone = (
            ray.exceptions.WorkerCrashedError,
            ray.exceptions.NodeDiedError,
            ray.exceptions.OutOfMemoryError,
        )
        first = str(error).strip().partition("\n")[0]
        return Ended(1, seconds, first if isinstance(error, gone) else "")


def _import_ray() -> Any:
    """Ray.

    Raises:
        ExecutorError: it is not installed.
    """
    try:
        import ray
    except ImportError as error:
        raise ExecutorError(
            "--executor ray needs the extra ray: pip install 'likewise[ray]'"
        ) from error
    return ray
