"""Progress of a study's units, in the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import TracebackType

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from likewise.study.journal import Journal
from likewise.study.runner import Launch
from likewise.study.units import Plan, Unit
from likewise.study.workers import Worker
from likewise.terminal import SafeConsole, shown


def minutes(seconds: float | None) -> str:
    """A duration in words: "40 s", "12 min", "3.5 h"; "?" if unknown."""
    if seconds is None:
        return "?"
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def estimate(
    units: Sequence[Unit], seconds: Mapping[str, float | None], workers: int
) -> float | None:
    """Seconds until so many workers have done the units; None if a kind's are unknown."""
    each = [seconds[unit.kind] for unit in units]
    known = [value for value in each if value is not None]
    return sum(known) / workers if len(known) == len(each) else None


class UnitProgress:
    """A line per unit that ended, and on a terminal a bar below them; a context manager."""

    def __init__(self, plan: Plan, done: int, todo: Sequence[Unit], workers: int) -> None:
        self.journal, self.left, self.workers = Journal(plan), list(todo), workers
        self.busy: dict[Unit, Worker] = {}
        console = SafeConsole(soft_wrap=True, highlight=False)
        self.bar = Progress(
            BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"),
            console=console, disable=not console.is_terminal,
        )  # fmt: skip
        self.task = self.bar.add_task("", total=done + len(todo), completed=done)

    def __enter__(self) -> UnitProgress:
        self.bar.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.bar.__exit__(kind, error, trace)

    def started(self, unit: Unit, worker: Worker) -> None:
        self.busy[unit] = worker
        self._show()

    def ended(self, launch: Launch) -> None:
        """One line; all of the problem, if there is one."""
        del self.busy[launch.unit]
        say = self.bar.console.print
        if launch.end == "lost":
            say(f"{shown(launch.problem.partition(chr(10))[0])}; trying again")
            return
        self.left.remove(launch.unit)
        if launch.end == "finished":
            say(f"{shown(str(launch.unit))}: {minutes(launch.seconds)}")
            self.bar.advance(self.task)
        elif launch.end == "stopped":
            say(f"{shown(str(launch.unit))}: stopped")
        else:
            say(f"[bold red]failed:[/] {shown(launch.problem)}")
        self._show()

    def _show(self) -> None:
        seconds = {kind: self.journal.typical_seconds(kind) for kind in ("train", "evaluate")}
        left = minutes(estimate(self.left, seconds, self.workers))
        running = ", ".join(f"{unit} on {worker.name}" for unit, worker in self.busy.items())
        self.bar.update(self.task, description=shown(f"{left} left; {running}"))
