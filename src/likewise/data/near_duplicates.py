"""Images that are the same, or nearly, but of different subjects: a leak between the splits.

A held-out subject is held out by its name (or its family's). Where its photo also stands under
another name, it may be trained on all the same. Only the pixels can tell, so all are decoded.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from likewise.data.sources.entries import DamageError, Entry, Source
from likewise.data.sources.stored_images import read_image
from likewise.fingerprints import NEAR, distances, exact_half, fingerprint, perceptual_half

BANDS = NEAR + 1  # hashes that differ in NEAR bits are equal in one of so many parts
CROWD = 1000  # hashes with an equal part; more share it because it holds nothing


@dataclass(frozen=True)
class Fingerprinted:
    """An image of a dataset: whose it is, what it is called, and its fingerprint."""

    family: str
    subject: str
    name: str
    mark: str

    def __str__(self) -> str:
        return f"{self.subject} ({self.name})"


def fingerprint_rows(source: Source, rows: np.ndarray) -> list[Fingerprinted]:
    """Every image of some rows, in ascending order, once per file; damaged ones are left out."""
    wanted, found = set(rows.tolist()), dict[str, Fingerprinted]()
    for entry in source.entries(int(rows[0]), int(rows[-1]) + 1, content=True):
        if isinstance(entry, Entry) and entry.row in wanted:
            for key, image in _fingerprinted(entry, found):
                found[key] = image
    return list(found.values())


def find_near_duplicates(
    images: Sequence[Fingerprinted],
) -> list[tuple[Fingerprinted, Fingerprinted]]:
    """Pairs that show the same though their families differ; one pair for any two families."""
    pairs: dict[tuple[str, str], tuple[Fingerprinted, Fingerprinted]] = {}
    for one, other in sorted({*_same(images), *_near(images)}):
        first, second = images[one], images[other]
        if first.family != second.family:
            low, high = sorted((first.family, second.family))
            pairs.setdefault((low, high), (first, second))
    return list(pairs.values())


def _fingerprinted(entry: Entry, known: Collection[str]) -> Iterator[tuple[str, Fingerprinted]]:
    # Each half of a pair is a reference of one row, so those without a file are not needed twice.
    for stored in (one for one in entry.images if one.file or one in entry.references):
        key = stored.file or f"{entry.row}, {stored.name}"
        if key not in known:
            try:
                mark = fingerprint(read_image(stored))
            except DamageError:
                continue  # which `check_entry` reports
            name = stored.name if stored.file else entry.where
            yield key, Fingerprinted(entry.family or entry.subject, entry.subject, name, mark)


def _same(images: Sequence[Fingerprinted]) -> Iterator[tuple[int, int]]:
    """Indices of each image and of the first with equal pixels."""
    first: dict[str, int] = {}
    for index, image in enumerate(images):
        before = first.setdefault(exact_half(image.mark), index)
        if before != index:
            yield before, index


def _near(images: Sequence[Fingerprinted]) -> Iterator[tuple[int, int]]:
    """Indices of images whose perceptual hashes differ in NEAR bits at most.

    Hashes are compared only where one of their bands is equal, and holds something.
    """
    halves = [perceptual_half(image.mark) for image in images]
    indices = np.array([index for index, half in enumerate(halves) if half is not None])
    if len(indices) < 2:
        return
    hashes = np.stack([half for half in halves if half is not None])
    for band in np.array_split(np.arange(hashes.shape[1]), BANDS):
        for bucket in _buckets(hashes[:, band]):
            for one, row in enumerate(bucket[:-1]):
                rest = bucket[one + 1 :]
                near = rest[distances(hashes[rest], hashes[row]) <= NEAR]
                yield from ((int(indices[row]), int(indices[other])) for other in near)


def _buckets(band: np.ndarray) -> Iterable[np.ndarray]:
    """Rows [N, b] that are equal, as ascending row numbers; without plain and crowded ones."""
    values, inverse, counts = np.unique(band, axis=0, return_inverse=True, return_counts=True)
    order = np.argsort(inverse.reshape(-1), kind="stable")
    ends = np.cumsum(counts)
    plain = (values == 0).all(1) | (values == 255).all(1)
    for bucket in np.flatnonzero((counts > 1) & (counts <= CROWD) & ~plain):
        yield order[ends[bucket] - counts[bucket] : ends[bucket]]
