"""What the user sees while a run goes on: one line per iteration, and a bar on a terminal."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.text import Text

from likewise.printable import printable
from likewise.records.atomic import naming
from likewise.trainer.metrics import Numbers, evaluation_means


class Progress:
    """Prints to a console; only the main process has one that speaks.

    Args:
        rewards: Names, in the recipe's order.
        iterations: Of the whole run.
        quiet: Show warnings only.
    """

    def __init__(
        self,
        rewards: Sequence[str],
        iterations: int,
        console: Console,
        quiet: bool = False,
    ) -> None:
        self.rewards, self.iterations, self.console = rewards, iterations, console
        self.quiet = quiet
        self.log: Path | None = None
        self.early: list[str] = []  # lines from before there was a log
        self.warnings: list[str] = []
        self.seconds: list[float] = []

    def keep(self, log: Path) -> None:
        """From now on add every line to the file `log` too, whatever the console shows.

        What was said before comes first.
        """
        self.log = log
        for line in self.early:
            self._write(line)
        self.early = []

    def show(self, iteration: int, row: Numbers, timings: Mapping[str, float]) -> None:
        """One line: rewards of this iteration, conflict rate, evaluation if any, time left."""
        parts = [f"[bold]{iteration:>4}[/]/{self.iterations}"]
        parts += [
            f"{escape(name)} {row[key]:.4f}"
            for name in self.rewards
            if row.get(key := f"reward/{name}/mean") is not None
        ]
        if (conflict := row.get("conflict_rate")) is not None:
            parts.append(f"conflict {conflict:.0%}")
        if "seconds/total" in timings:
            self.seconds.append(timings["seconds/total"])
            parts.append(f"{timings['seconds/total']:.1f} s")
            parts.append(f"[dim]{self._left(iteration)} left[/]")
        self._print("  ".join(parts))
        if seen := evaluation_means(row):
            text = "  ".join(f"{escape(name)} {value:.4f}" for name, value in seen.items())
            self._print(f"      [cyan]evaluation  {text}[/]")

    def warn(self, message: str) -> None:
        """One line, whatever is in the message."""
        text = " ".join(message.splitlines())
        self.warnings.append(text)
        self._print(f"[yellow]warning:[/] {escape(text)}", always=True)

    def take_warnings(self) -> list[str]:
        """Those since the last call."""
        found, self.warnings = self.warnings, []
        return found

    @contextmanager
    def heeding(self, package: str) -> Iterator[None]:
        """Within this context, what a package logs as a warning is one here too."""
        logger, handler = logging.getLogger(package), logging.Handler(logging.WARNING)
        handler.emit = lambda record: self.warn(record.getMessage())  # type: ignore[method-assign]
        logger.addHandler(handler)
        try:
            yield
        finally:
            logger.removeHandler(handler)

    def _print(self, line: str, always: bool = False) -> None:
        text = Text.from_markup(printable(line))
        if always or not self.quiet:
            self.console.print(text, soft_wrap=True)
        if self.log is None:
            self.early.append(text.plain)
        else:
            self._write(text.plain)

    def _write(self, line: str) -> None:
        assert self.log is not None
        with naming(self.log), self.log.open("a", encoding="utf-8") as file:
            file.write(line + "\n")

    def _left(self, iteration: int) -> str:
        """Time to the end at the mean pace of the last iterations: "12 min"."""
        recent = self.seconds[-10:]
        seconds = (self.iterations - iteration) * sum(recent) / len(recent)
        return f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"
