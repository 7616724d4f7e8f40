"""Which process draws which images, in which micro-batches.

An iteration has B = tasks × G images; row = task·G + number in the group. Updates share the tasks
out among them, processes share the rows of each update, and micro-batches cut a process's share.
Seeds go by row, so none of this changes what is drawn (beyond rounding).
"""

from __future__ import annotations

Rows = tuple[int, ...]


def micro_batches(
    num_rows: int, updates: int, processes: int, process: int, size: int
) -> list[list[Rows]]:
    """For each update, the micro-batches of one process: non-empty rows, ascending.

    Processes get contiguous shares that differ by one row at most, so groups may span processes;
    a process may get none.

    Args:
        num_rows: B, a multiple of `updates`.
        size: Rows per micro-batch, the last one maybe fewer; ≥ 1.
    """
    per_update = num_rows // updates
    shares = []
    for update in range(updates):
        start = update * per_update
        first = start + per_update * process // processes
        last = start + per_update * (process + 1) // processes
        rows = range(first, last)
        shares.append([tuple(rows[at : at + size]) for at in range(0, len(rows), size)])
    return shares
