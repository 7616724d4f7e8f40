"""Tasks of a dataset as an endless stream, or as a fixed set; what to do about bad rows."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from shlex import quote

from likewise.config.data import Photos
from likewise.data.epochs import Epochs
from likewise.data.sources.entries import Problem
from likewise.data.sources.index import Problems
from likewise.data.sources.opening import Opener
from likewise.types import Task

LOG = logging.getLogger(__name__)
MOST_IN_A_ROW = 1000  # bad rows; whoever has so many should look at them


@dataclass(frozen=True)
class PhotoStream:
    """Implements :class:`likewise.protocols.TaskStream`.

    A bad row is an error, or, with `skip_bad`, replaced by the next good one of its epoch; so task
    `index` is always the same one.

    Attributes:
        rows: Numbers of good rows, as far as can be told without opening images.
        ahead: How many tasks after one that is asked for are opened ahead of time.
        asked: Of every `ahead` tasks, which ones are ever asked for: others are not opened.
    """

    opener: Opener
    rows: Epochs[int]
    settings: Photos
    ahead: int
    asked: frozenset[int]

    def __call__(self, index: int) -> Task:
        later = range(index + 1, index + self.ahead + 1)
        wanted = [index, *(one for one in later if one % self.ahead in self.asked)]
        self.opener.expect([self.rows(one) for one in wanted])
        for after in range(min(len(self.rows.tasks), MOST_IN_A_ROW)):
            found = self.opener.take(self.rows(index, after))
            if isinstance(found, Task):
                return found
            refuse_or_log(found, self.settings)
        raise ValueError(f"{self.settings.path} has no good image in {after + 1} rows")


def first_tasks(opener: Opener, rows: Epochs[int], count: int, settings: Photos) -> list[Task]:
    """The first `count` good tasks of an epoch; fewer if there are not so many.

    Raises:
        ValueError: a row is bad, and bad ones are not to be skipped.
    """
    tasks: list[Task] = []
    for index in range(len(rows.tasks)):
        if len(tasks) == count:
            break
        found = opener.take(rows(index))
        if isinstance(found, Task):
            tasks.append(found)
        else:
            refuse_or_log(found, settings)
    return tasks


def log_notes(notes: Sequence[str]) -> None:
    """Log what a source leaves out on purpose."""
    for note in notes:
        LOG.warning("data: %s", note)


def refuse_or_log(found: Problem | Problems, settings: Photos) -> None:
    """Log what is wrong with a dataset, if bad rows are to be skipped.

    Raises:
        ValueError: bad rows are not to be skipped.
    """
    if not settings.skip_bad:
        decode = " --decode" if isinstance(found, Problem) else ""  # found by opening images
        raise ValueError(
            f"{settings.path} has bad rows: {found}\n"
            f"see them all: likewise data check {quote(settings.path)} --kind {settings.kind}"
            f"{decode}\n"
            "or go on without them: data.skip_bad=true"
        )
    LOG.warning("data: skipped %s", found)
