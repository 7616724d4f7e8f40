"""Every row of a dataset checked, by as many processes as there are cores."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from likewise.data.near_duplicates import (
    Fingerprinted,
    find_near_duplicates,
    fingerprint_rows,
)
from likewise.data.sources.entries import DamageError, Entry, Problem, Source
from likewise.data.sources.index import Problems, index_rows
from likewise.data.sources.opening import check_entry
from likewise.data.worker_pool import start_pool, state

CHUNK = 500  # rows that a process takes at a time


@dataclass(frozen=True)
class Report:
    """What was found.

    Attributes:
        rows: How many there are, good and bad.
        problems: Of the bad ones.
        notes: What was left out on purpose, and so is not among the rows.
        near_duplicates: Images that are the same, or nearly, though of different subjects; found
            only where all are decoded.
    """

    rows: int
    problems: Problems
    notes: Sequence[str]
    near_duplicates: Sequence[tuple[Fingerprinted, Fingerprinted]] = ()

    @property
    def bad(self) -> int:
        return self.problems.counts.total()


def check_source(
    source: Source, decode: bool = False, processes: int = 1, examples: int = 3
) -> Report:
    """Check rows, then headers of all images; if `decode`, every pixel, and for near duplicates.

    The report does not depend on the number of processes.
    """
    index = index_rows(source, None, examples)
    problems, good = index.problems, index.training
    chunks = [good[start : start + CHUNK] for start in range(0, len(good), CHUNK)]
    images: list[Fingerprinted] = []
    with _mapping(source, min(processes, len(chunks))) as mapped:
        for part in mapped(partial(check_rows, decode=decode, examples=examples), chunks):
            problems.merge(part)
        if decode:
            images = [one for part in mapped(fingerprint_rows, chunks) for one in part]
    return Report(len(source), problems, source.notes, find_near_duplicates(images))


def check_rows(source: Source, rows: np.ndarray, decode: bool, examples: int) -> Problems:
    """Check the images of some rows, which are in ascending order."""
    problems, wanted = Problems(examples), set(rows.tolist())
    for entry in source.entries(int(rows[0]), int(rows[-1]) + 1, content=True):
        if entry.row not in wanted:
            continue
        if isinstance(entry, Entry):
            try:
                check_entry(entry, decode)
            except DamageError as damage:
                problems.add(Problem(entry.row, entry.where, damage.what, damage.detail))
        else:  # its images could not even be read
            problems.add(entry)
    return problems


@contextmanager
def _mapping(source: Source, processes: int) -> Iterator[Callable[..., Iterable[Any]]]:
    """What does `work(source, chunk)` for every chunk, in order, in so many processes."""
    if processes < 2:
        yield lambda work, chunks: (work(source, chunk) for chunk in chunks)
        return
    with start_pool(processes, source) as pool:
        yield lambda work, chunks: pool.map(partial(_in_process, work), chunks)


def _in_process(work: Callable[..., Any], rows: np.ndarray) -> Any:
    (source,) = state()
    return work(source, rows)
