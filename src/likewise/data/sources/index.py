"""Which rows of a dataset are for training, which for evaluation, and which are bad.

No image is opened: paths, texts and types are checked, and whether files exist.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from dataclasses import dataclass, field

import numpy as np

from likewise.data.sources.entries import Entry, Problem, Source, Stored
from likewise.seeding import derive_seed


@dataclass
class Problems:
    """How many rows are bad, in which way, and the first few of each; a row counts once."""

    examples: int = 3
    counts: Counter[str] = field(default_factory=Counter)
    first: dict[str, list[Problem]] = field(default_factory=dict)

    def add(self, problem: Problem) -> None:
        self.counts[problem.what] += 1
        known = self.first.setdefault(problem.what, [])
        if len(known) < self.examples:
            known.append(problem)

    def merge(self, others: Problems) -> None:
        """Add what was found in later rows."""
        self.counts += others.counts
        for what, problems in others.first.items():
            known = self.first.setdefault(what, [])
            known += problems[: self.examples - len(known)]

    def __str__(self) -> str:
        """ "3 missing image (a.jsonl, line 7: dog.png), 1 duplicate id (…)"."""
        return ", ".join(
            f"{count} {what} ({self.first[what][0].where}: {self.first[what][0].detail})"
            for what, count in self.counts.most_common()
        )


@dataclass(frozen=True)
class Index:
    """Good rows, int64, in ascending order; and the bad ones.

    Attributes:
        unmasked: How many of the good rows have no mask of their first reference.
        fingerprint: Of what the good rows say, and of their files' names and sizes; files are not
            opened. Wherever the dataset lies, it is the same.
    """

    training: np.ndarray
    held_out: np.ndarray
    problems: Problems
    fingerprint: str
    unmasked: int = 0


def index_rows(source: Source, held_out: int | None, examples: int = 3) -> Index:
    """Sort all rows into training, held out and bad.

    Whether a row is held out follows from its subject's name (or family's) alone, so that a growing
    dataset keeps its split; but of two or more families, at least one is on either side.

    Args:
        held_out: One in so many families; None for none.
        examples: How many problems of each kind to keep.
    """
    problems, ids, digest = Problems(examples), set[int](), hashlib.sha256()
    rows, families, unmasked = [], [], 0
    for entry in source.entries(0, len(source), content=False):
        found = _problem(entry, ids)
        if found is not None:
            problems.add(found)
        elif isinstance(entry, Entry):
            rows.append(entry.row)
            unmasked += not entry.has_mask
            families.append(derive_seed("held out", entry.family or entry.subject))
            digest.update(_facts(entry))
    good, marks = np.array(rows, np.int64), np.array(families, np.int64)
    out = _held_out(marks, held_out) if held_out and len(marks) else np.zeros(len(good), bool)
    return Index(good[~out], good[out], problems, digest.hexdigest(), unmasked)


def _facts(entry: Entry) -> bytes:
    """What a row asks for, in bytes."""
    texts = (entry.id, entry.prompt, entry.class_name, entry.subject, entry.family)
    files = [(stored.name, _size(stored)) for stored in entry.stored]
    return json.dumps([texts, files]).encode()


def _size(stored: Stored) -> int:
    """Bytes of a stored image's file; -1 where there is none."""
    try:
        return -1 if stored.file is None else os.stat(stored.file).st_size
    except OSError:
        return -1


def _problem(entry: Entry | Problem, ids: set[int]) -> Problem | None:
    """What is wrong with a row, beside images that are there; `ids` grows."""
    if isinstance(entry, Problem):
        return entry
    for stored in entry.stored:
        if not stored.optional and stored.absent:
            return Problem(entry.row, entry.where, "missing image", stored.problem)
    mark = hash(entry.id)  # 64 bits instead of the text
    if mark in ids:
        return Problem(entry.row, entry.where, "duplicate id", f"{entry.id!r} is taken")
    ids.add(mark)
    return None


def _held_out(families: np.ndarray, share: int) -> np.ndarray:
    """bool [N], from the hash of each row's family, int64 [N]."""
    out = families % share == 0
    if out.any() and not out.all():
        return out
    smallest = families == families.min()
    return smallest if not smallest.all() else np.zeros(len(families), bool)
