"""How commands fail: one readable message, and an exit code that says what kind of failure.

0: done. 1: a run could not go on, or `doctor` found a problem. 2: something was asked for that
does not exist or does not fit. 128 + n: signal n ended it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

import typer

from likewise.terminal import SafeConsole, shown
from likewise.trainer.checks import TrainingError

FAILED = 1
USAGE = 2
TRACEBACK = "LIKEWISE_TRACEBACK"


def fail(message: str, code: int) -> NoReturn:
    """Print `message` to stderr, and end the command with `code`."""
    console = SafeConsole(stderr=True, soft_wrap=True)
    console.print(f"[bold red]error:[/] {shown(message)}", highlight=False)
    raise typer.Exit(code)


@contextmanager
def readable_errors() -> Iterator[None]:
    """Turn errors that users can correct into messages; all others are bugs and keep a traceback.

    With LIKEWISE_TRACEBACK=1 in the environment every error keeps its traceback.
    """
    try:
        yield
    except (TrainingError, ValueError, OSError) as error:
        if os.environ.get(TRACEBACK) == "1":
            raise
        if isinstance(error, TrainingError):
            fail(str(error), FAILED)
        where = "" if _says_all(error) else f"\n({TRACEBACK}=1 shows where this came from)"
        fail(f"{error}{where}", USAGE)


def _says_all(error: Exception) -> bool:
    """Whether the error is of a kind whose messages name file and field, or what is missing."""
    from likewise.config import RecipeError
    from likewise.records import RunDirectoryError
    from likewise.study.unit_jobs import ExecutorError

    return isinstance(error, RecipeError | RunDirectoryError | ExecutorError)
