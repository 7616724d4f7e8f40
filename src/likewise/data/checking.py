"""Every row of a data set looked at, by as many processes as there are cores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from likewise.data.entries import DamageError, Entry, Problem, Source
from likewise.data.index import Problems, index_rows
from likewise.data.opening import check_entry
from likewise.data.pool import start_pool, state

CHUNK = 500  # rows that a process takes at a time


@dataclass(frozen=True)
class Report:
    """What was found.

    Attributes:
        rows: How many there are, good and bad.
        problems: Of the bad ones.
        notes: What was left out on purpose, and so is not among the rows.
    """

    rows: int
    problems: Problems
    notes: Sequence[str]

    @property
    def bad(self) -> int:
        return self.problems.counts.total()


def check_source(
    source: Source, decode: bool = False, processes: int = 1, examples: int = 3
) -> Report:
    """Check rows, then the headers of all pictures, or every pixel if `decode`.

    The report does not depend on the number of processes.
    """
    index = index_rows(source, None, examples)
    problems, good = index.problems, index.training
    chunks = [good[start : start + CHUNK] for start in range(0, len(good), CHUNK)]
    if processes == 1 or len(chunks) < 2:
        found = (check_rows(source, chunk, decode, examples) for chunk in chunks)
        for part in found:
            problems.merge(part)
    else:
        with start_pool(min(processes, len(chunks)), source) as pool:
            for part in pool.map(_check, chunks, [decode] * len(chunks), [examples] * len(chunks)):
                problems.merge(part)
    return Report(len(source), problems, source.notes)


def check_rows(source: Source, rows: np.ndarray, decode: bool, examples: int) -> Problems:
    """Look at the pictures of some rows, which are in ascending order."""
    problems, wanted = Problems(examples), set(rows.tolist())
    for entry in source.entries(int(rows[0]), int(rows[-1]) + 1, content=True):
        if entry.row not in wanted:
            continue
        if isinstance(entry, Entry):
            try:
                check_entry(entry, decode)
            except DamageError as damage:
                problems.add(Problem(entry.row, entry.where, damage.what, damage.detail))
        else:  # its pictures could not even be read
            problems.add(entry)
    return problems


def _check(rows: np.ndarray, decode: bool, examples: int) -> Problems:
    (source,) = state()
    return check_rows(source, rows, decode, examples)
