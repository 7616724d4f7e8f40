"""Images that are the same, or nearly, but of different subjects: a leak between the two sides.

A held-out subject is held out by its name (or its family's). Where its photo also stands under
another name, it may be trained on all the same. Only the pixels can tell, so all are decoded.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from likewise.data.sources.entries import DamageError, Entry, Source
from likewise.data.sources.reading import read_image
from likewise.fingerprints import NEAR, distances, exact_half, fingerprint, perceptual_half

BANDS = NEAR + 1  # hashes that differ in NEAR bits are equal in one of so many parts
CROWD = 1000  # hashes with an equal part; more share it because it holds nothing


@dataclass(frozen=True)
class Look:
    """An image of a dataset: whose it is, what it is called, and its fingerprint."""

    family: str
    subject: str
    name: str
    mark: str

    def __str__(self) -> str:
        return f"{self.subject} ({self.name})"


def looks_of(source: Source, rows: np.ndarray) -> list[Look]:
    """Every image of some rows, in ascending order, once per file; damaged ones are left out."""
    wanted, found = set(rows.tolist()), dict[str, Look]()
    for entry in source.entries(int(rows[0]), int(rows[-1]) + 1, content=True):
        if isinstance(entry, Entry) and entry.row in wanted:
            for key, look in _looks(entry, found):
                found[key] = look
    return list(found.values())


def find_twins(looks: Sequence[Look]) -> list[tuple[Look, Look]]:
    """Pairs that show the same though their families differ; one pair for any two families."""
    pairs: dict[tuple[str, str], tuple[Look, Look]] = {}
    for one, other in sorted({*_same(looks), *_near(looks)}):
        first, second = looks[one], looks[other]
        if first.family != second.family:
            low, high = sorted((first.family, second.family))
            pairs.setdefault((low, high), (first, second))
    return list(pairs.values())


def _looks(entry: Entry, known: dict[str, Look]) -> Iterator[tuple[str, Look]]:
    # Each half of a pair is a reference of one row, so those without a file are not needed twice.
    for stored in (one for one in entry.images if one.file or one in entry.references):
        key = stored.file or f"{entry.row}, {stored.name}"
        if key not in known:
            try:
                mark = fingerprint(read_image(stored))
            except DamageError:
                continue  # which `check_entry` reports
            name = stored.name if stored.file else entry.where
            yield key, Look(entry.family or entry.subject, entry.subject, name, mark)


def _same(looks: Sequence[Look]) -> Iterator[tuple[int, int]]:
    """Places of each image and the first with equal pixels."""
    first: dict[str, int] = {}
    for place, look in enumerate(looks):
        before = first.setdefault(exact_half(look.mark), place)
        if before != place:
            yield before, place


def _near(looks: Sequence[Look]) -> Iterator[tuple[int, int]]:
    """Places of images whose perceptual hashes differ in NEAR bits at most.

    Hashes are compared only where one of their bands is equal, and holds something.
    """
    halves = [perceptual_half(look.mark) for look in looks]
    places = np.array([place for place, half in enumerate(halves) if half is not None])
    if len(places) < 2:
        return
    hashes = np.stack([half for half in halves if half is not None])
    for band in np.array_split(np.arange(hashes.shape[1]), BANDS):
        for bucket in _buckets(hashes[:, band]):
            for one, row in enumerate(bucket[:-1]):
                rest = bucket[one + 1 :]
                near = rest[distances(hashes[rest], hashes[row]) <= NEAR]
                yield from ((int(places[row]), int(places[other])) for other in near)


def _buckets(band: np.ndarray) -> Iterable[np.ndarray]:
    """Rows [N, b] that are equal, as ascending row numbers; without plain and crowded ones."""
    values, inverse, counts = np.unique(band, axis=0, return_inverse=True, return_counts=True)
    order = np.argsort(inverse.reshape(-1), kind="stable")
    ends = np.cumsum(counts)
    plain = (values == 0).all(1) | (values == 255).all(1)
    for place in np.flatnonzero((counts > 1) & (counts <= CROWD) & ~plain):
        yield order[ends[place] - counts[place] : ends[place]]
