"""What a process says when it loses the others."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch.distributed import DistBackendError, DistNetworkError

from likewise.trainer.checks import TrainingError

# Of gloo, whose errors have no type of their own.
GONE = ("Connection closed by peer", "Connection reset by peer", "Broken pipe", "Socket closed")
LATE = ("Timed out waiting", "Watchdog caught collective operation timeout")


@contextmanager
def naming_lost_processes(index: int, count: int, remedy: str) -> Iterator[None]:
    """Turn the errors of an exchange that failed into one clear message.

    Args:
        index, count: This process, of so many.
        remedy: What the user can do, to end a message with.

    Raises:
        TrainingError: another process has ended, or does not answer.
    """
    try:
        yield
    except RuntimeError as error:
        what = None if count == 1 or isinstance(error, TrainingError) else _lost(error)
        if what is None:
            raise
        raise TrainingError(
            f"process {index} of {count} {what}; the others' messages say why; {remedy}"
        ) from error


def _lost(error: RuntimeError) -> str | None:
    """What happened, if it is about another process."""
    text = str(error)
    if any(phrase in text for phrase in LATE):
        return "waited for another one longer than run.timeout"
    is_of_torch = isinstance(error, DistBackendError | DistNetworkError)
    if is_of_torch or any(phrase in text for phrase in GONE):
        return "lost its connection to another one, which has ended or cannot be reached"
    return None
