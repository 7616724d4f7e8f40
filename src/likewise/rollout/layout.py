"""Which process draws which images, in which micro-batches.

An iteration draws B = tasks × G samples, with indices 0 … B − 1: index = task·G + number in the
group. Updates share out the tasks or the samples of every group among them, processes share the
samples of each update, and micro-batches cut a process's share. Seeds go by index, so none of this
changes what is drawn (beyond rounding).
"""

from __future__ import annotations

from likewise.config.learning import Optimizer
from likewise.config.rollout import Rollout

Indices = tuple[int, ...]  # of samples of the iteration


def micro_batches(
    rollout: Rollout, optimizer: Optimizer, processes: int, process: int
) -> list[list[Indices]]:
    """For each update, the micro-batches of one process: indices, ascending; none is empty.

    Processes get neighbouring shares of an update's samples that differ by one at most, so groups
    may span processes; a process may get none.

    Args:
        rollout, optimizer: Sections of a valid recipe, where updates divide tasks or samples.
    """
    shares = []
    for indices in _indices_by_update(rollout, optimizer):
        first, last = (len(indices) * end // processes for end in (process, process + 1))
        own = indices[first:last]
        cuts = range(0, len(own), rollout.micro_batch)
        shares.append([tuple(own[at : at + rollout.micro_batch]) for at in cuts])
    return shares


def own_tasks(
    rollout: Rollout, optimizer: Optimizer, processes: int, process: int
) -> tuple[int, ...]:
    """Which tasks of an iteration a process draws samples of, ascending; perhaps none."""
    updates = micro_batches(rollout, optimizer, processes, process)
    samples = [index for update in updates for batch in update for index in batch]
    return tuple(sorted({index // rollout.group_size for index in samples}))


def _indices_by_update(rollout: Rollout, optimizer: Optimizer) -> list[list[int]]:
    """Samples of each update, ascending: its turn of all, or its turn of every group's."""
    count, updates = rollout.tasks * rollout.group_size, optimizer.updates_per_iteration
    shared = rollout.group_size if optimizer.split == "samples" else count
    turn = shared // updates  # neighbouring samples that go to the same update
    return [
        [index for start in range(first, count, shared) for index in range(start, start + turn)]
        for first in range(0, shared, turn)
    ]
