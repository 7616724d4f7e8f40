"""Tasks opened when they are asked for, or a little before, by other processes.

This module must not import torch: those processes would wait for it, and hold it in memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import cached_property

from likewise.config.policies import PolicySection
from likewise.data.pool import start_pool, state
from likewise.data.sources.entries import Problem, Source
from likewise.data.sources.opening import open_row
from likewise.types import Task


class Opener:
    """Opens rows, ahead of time where there are workers. What comes out never depends on them."""

    def __init__(self, source: Source, policy: PolicySection, workers: int) -> None:
        self.source, self.policy, self.workers = source, policy, workers
        self._ahead: dict[int, Future[Task | Problem]] = {}

    def expect(self, rows: Sequence[int]) -> None:
        """Begin to open these; drop all others that were not taken."""
        if not self.workers:
            return
        for row in set(self._ahead) - set(rows):
            self._ahead.pop(row).cancel()
        for row in rows:
            if row not in self._ahead:
                self._ahead[row] = self._pool.submit(_open, row)

    def take(self, row: int) -> Task | Problem:
        """The task of a row, or why there is none.

        Raises:
            OSError: a worker died.
        """
        if row not in self._ahead:
            return open_row(self.source, row, self.policy)
        try:
            return self._ahead.pop(row).result()
        except BrokenProcessPool as error:
            raise OSError(
                "a process that opens images died, perhaps for want of memory: "
                "use fewer data.workers"
            ) from error

    @cached_property
    def _pool(self) -> ProcessPoolExecutor:
        return start_pool(self.workers, self.source, self.policy)


def _open(row: int) -> Task | Problem:
    source, policy = state()
    return open_row(source, row, policy)
