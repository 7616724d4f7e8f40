"""Printing to a terminal: whatever text is in what is printed, it cannot steer the terminal."""

from __future__ import annotations

from collections.abc import Iterable

import typer
from rich.console import Console, ConsoleOptions, RenderableType
from rich.markup import escape
from rich.segment import Segment

from likewise.printable import printable


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
