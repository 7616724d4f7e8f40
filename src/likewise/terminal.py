"""Printing to a terminal: whatever text is in what is printed, it cannot steer the terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import typer
from rich.console import Console, ConsoleOptions, RenderableType
from rich.markup import escape
from rich.segment import Segment

from likewise.printable import printable

if TYPE_CHECKING:
    from rich.progress import TaskID


class SafeConsole(Console):
    """A console that prints text as :func:`printable`; styles and bars of its own still work."""

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        for text, style, control in super().render(renderable, options):
            yield Segment(text if control else printable(text), style, control)


def shown(text: object) -> str:
    """Text from elsewhere for rich's markup: shown as it is, and harmless."""
    return escape(printable(str(text)))


def say(text: object, err: bool = False) -> None:
    """A plain line to stdout, or stderr."""
    typer.echo(printable(str(text)), err=err)


@contextmanager
def progress_bars() -> Iterator[Callable[[str, int, int], None]]:
    """Called with what goes on and how much of it is done, of how much: a bar for each on stderr.

    They vanish at the end.
    """
    from rich.progress import Progress

    bars: dict[str, TaskID] = {}
    with Progress(console=SafeConsole(stderr=True), transient=True) as progress:

        def show(what: str, done: int, total: int) -> None:
            if what not in bars:
                bars[what] = progress.add_task(shown(what))
            progress.update(bars[what], completed=done, total=total)

        yield show
