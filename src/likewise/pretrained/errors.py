"""What goes wrong while a model is loaded, as one line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from likewise.quiet import hide_file_bars

LONGEST = 400  # characters of a foreign message: some list every tensor of a model
TELLING = (OSError, ValueError, RuntimeError)  # whose messages say enough without their type


class ModelError(ValueError):
    """A model is damaged, incomplete, or of another kind; the message names folder or file."""


@contextmanager
def loading(what: object) -> Iterator[None]:
    """Load without progress bars, and turn every failure into one line that begins with `what`.

    Libraries fail in many ways on a damaged folder: KeyError, TypeError, RecursionError, …

    Raises:
        OSError: something is missing or cannot be read.
        ModelError: anything else went wrong.
    """
    hide_file_bars()
    try:
        yield
    except ModelError:
        raise
    except OSError as error:
        raise OSError(f"{what}: {one_line(error)}") from error
    except Exception as error:
        raise ModelError(f"{what} cannot be loaded: {one_line(error)}") from error


def one_line(error: BaseException) -> str:
    """An exception's message without line breaks, cut where it would be very long."""
    text = " ".join(str(error).split())
    if len(text) > LONGEST:
        text = f"{text[:LONGEST]} …"
    return text if text and isinstance(error, TELLING) else f"{type(error).__name__}: {text}"
