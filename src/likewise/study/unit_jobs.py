"""What a study asks of an executor, which decides where and how units run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from likewise.study.units import Plan, Unit
from likewise.study.workers import Worker


class ExecutorError(ValueError):
    """An executor cannot be used as asked; the message says what to do."""


@dataclass(frozen=True)
class Resources:
    """What each unit is given on a cluster.

    Attributes:
        cpus: Cores, and threads of PyTorch.
        gpus: None: one where the recipe's device allows it and there are any.
    """

    cpus: int = 1
    gpus: int | None = None


@dataclass(frozen=True)
class Ended:
    """How a unit's process ended.

    Attributes:
        code: Exit code; −n: signal n ended it.
        seconds: How long it took.
        lost: How the machine under it was lost, so that another should go on; empty if it was not.
    """

    code: int
    seconds: float
    lost: str = ""


class Job(Protocol):
    """One launch of a unit.

    Attributes:
        resumed: Whether it goes on with what an earlier launch began.
        asked_to_stop: Whether :meth:`stop` was called.
    """

    unit: Unit
    worker: Worker
    resumed: bool
    asked_to_stop: bool

    def ended(self) -> Ended | None:
        """None while it runs, or waits for a machine."""

    def stop(self) -> None:
        """Let a training write its checkpoint and end. Calls after the first change nothing."""

    def kill(self) -> None:
        """End it at once."""


class Executor(Protocol):
    """Starts units.

    Attributes:
        workers: Each has one unit at a time.
    """

    workers: Sequence[Worker]

    def start(self, plan: Plan, unit: Unit, worker: Worker) -> Job:
        """Launch a unit, whose output goes to ``plan.log(unit)``."""
