"""One process at a time in a folder."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def exclusive(file: Path, busy: Callable[[str], Exception]) -> Iterator[None]:
    """Hold the lock on `file`, which is made where missing and says whose lock it is.

    The system frees the lock when the process ends. Programs that it starts do not hold the lock; a
    forked child that outlives it does.

    Raises:
        Exception: what `busy` makes of the id of the process (or "?") that holds it already; that
            may be this one.
    """
    with file.open("a+") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            handle.seek(0)
            raise busy(handle.read().strip() or "?") from None
        handle.truncate(0)
        handle.write(f"{os.getpid()}\n")
        handle.flush()
        yield
