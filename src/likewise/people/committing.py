"""Writes of many threads that share a commit.

A commit waits for the disk, which takes milliseconds; what one thread writes takes a fraction of
that. So all that come while a commit is on its way are written by the next one together.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, cast

T = TypeVar("T")
Run = Callable[..., sqlite3.Cursor]  # `Connection.execute`


@dataclass(eq=False)
class _Work(Generic[T]):
    """What one thread wants to write, and what came of it."""

    do: Callable[[Run], T]
    value: T | None = None
    error: BaseException | None = None
    is_done: bool = False


class SharedCommits:
    """The only writer of this process to a connection.

    Args:
        connection: With ``isolation_level=None``, for use by any thread.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._changed = threading.Condition()
        self._waiting: list[_Work[Any]] = []
        self._is_writing = False

    def write(self, do: Callable[[Run], T]) -> T:
        """What `do` returns, once all that it wrote is on the disk.

        What raises inside leaves no trace, and does not touch what others write meanwhile.
        """
        work = _Work(do)
        with self._changed:
            self._waiting.append(work)
            self._changed.wait_for(lambda: work.is_done or not self._is_writing)
            together, self._waiting = ([], self._waiting) if work.is_done else (self._waiting, [])
            self._is_writing = self._is_writing or bool(together)
        if together:
            self._commit(together)
            with self._changed:
                self._is_writing = False
                self._changed.notify_all()
        if work.error is not None:
            raise work.error
        return cast(T, work.value)

    def close(self) -> None:
        with self._changed:
            self._changed.wait_for(lambda: not self._is_writing)
            self._connection.close()

    def _commit(self, together: list[_Work[Any]]) -> None:
        run = self._connection.execute
        try:
            run("BEGIN IMMEDIATE")  # other processes wait
            for work in together:
                self._do(work)
            run("COMMIT")
        except BaseException as error:  # the disk is full, say: nothing of it all is there
            if self._connection.in_transaction:
                run("ROLLBACK")
            for work in together:
                work.error = error
        for work in together:
            work.is_done = True

    def _do(self, work: _Work[Any]) -> None:
        run = self._connection.execute
        run("SAVEPOINT work")
        try:
            work.value = work.do(run)
        except Exception as error:
            work.error = error
            run("ROLLBACK TO work")
        run("RELEASE work")
