"""Entries → tasks: where the images of a row are opened, or only checked.

Tasks are opened when they are asked for, or a little before, by other processes. This module must
not import torch: those processes would wait for it, and hold it in memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import cached_property

from likewise.config.policy_sections import PolicySection
from likewise.data.sources.entries import DamageError, Entry, Problem, Source
from likewise.data.sources.fitting import fit_held_out, fit_mask, fit_reference
from likewise.data.sources.stored_images import check_image, check_mask, read_image, read_mask
from likewise.data.worker_pool import start_pool, state
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


def open_row(source: Source, row: int, policy: PolicySection) -> Task | Problem:
    """The task of a row, or why there is none."""
    (entry,) = source.entries(row, row + 1, content=True)
    if isinstance(entry, Problem):
        return entry
    try:
        return open_task(entry, policy)
    except DamageError as damage:
        return Problem(row, entry.where, damage.what, damage.detail)


def open_task(entry: Entry, policy: PolicySection) -> Task:
    """The task with its images; references, and the first one's mask, fit the policy.

    Raises:
        DamageError: an image cannot be used.
    """
    first, *more = [read_image(stored) for stored in entry.references]
    mask = read_mask(entry.masks[0], first.size) if entry.masks and entry.masks[0] else None
    return Task(
        id=entry.id,
        prompt=entry.prompt,
        class_name=entry.class_name,
        subject=entry.subject,
        category=entry.category,
        kind=entry.kind,
        complexity=entry.complexity,
        reference=fit_reference(first, policy),
        reference_mask=None if mask is None else fit_mask(mask, first.size, policy),
        other_photos=tuple(fit_held_out(read_image(stored)) for stored in entry.others),
        more_references=tuple(fit_reference(image, policy) for image in more),
    )


def check_entry(entry: Entry, decode: bool) -> None:
    """Check the headers of all images, or every pixel if `decode`.

    Raises:
        DamageError: an image cannot be used; of the first one.
    """
    sizes = [check_image(stored, decode) for stored in entry.images]
    for mask, size in zip(entry.masks, sizes, strict=False):
        if mask is not None:
            check_mask(mask, size, decode)
