"""Which process draws which images, in which micro-batches.

An iteration has B = tasks × G images; row = task·G + number in the group. Updates share out the
tasks or the samples of every group among them, processes share the rows of each update, and
micro-batches cut a process's share. Seeds go by row, so none of this changes what is drawn (beyond
rounding).
"""

from __future__ import annotations

from likewise.config.learning import Optimizer
from likewise.config.rollout import Rollout

Rows = tuple[int, ...]


def micro_batches(
    rollout: Rollout, optimizer: Optimizer, processes: int, process: int
) -> list[list[Rows]]:
    """For each update, the micro-batches of one process: non-empty rows, ascending.

    Processes get neighbouring shares of an update's rows that differ by one row at most, so groups
    may span processes; a process may get none.

    Args:
        rollout, optimizer: Sections of a valid recipe, where updates divide tasks or samples.
    """
    shares = []
    for rows in _rows_by_update(rollout, optimizer):
        first, last = (len(rows) * end // processes for end in (process, process + 1))
        own = rows[first:last]
        cuts = range(0, len(own), rollout.micro_batch)
        shares.append([tuple(own[at : at + rollout.micro_batch]) for at in cuts])
    return shares


def _rows_by_update(rollout: Rollout, optimizer: Optimizer) -> list[list[int]]:
    """Rows of each update, ascending: its turn of all rows, or its turn of every group's."""
    count, updates = rollout.tasks * rollout.group_size, optimizer.updates_per_iteration
    shared = rollout.group_size if optimizer.split == "samples" else count
    turn = shared // updates  # neighbouring rows that go to the same update
    return [
        [row for start in range(first, count, shared) for row in range(start, start + turn)]
        for first in range(0, shared, turn)
    ]
