"""Rows are shared out without loss, whatever the processes, updates and micro-batches."""

from __future__ import annotations

import itertools

import pytest

from likewise.rollout.layout import micro_batches


def all_batches(rows: int, updates: int, processes: int, size: int) -> list:
    """[process][update] → micro-batches."""
    return [micro_batches(rows, updates, processes, p, size) for p in range(processes)]


@pytest.mark.parametrize("updates", [1, 2, 3])
def test_every_row_is_drawn_once_in_its_own_update(updates: int) -> None:
    for per_update, processes, size in itertools.product(range(1, 14), range(1, 7), (1, 2, 5, 99)):
        rows = per_update * updates
        shares = all_batches(rows, updates, processes, size)
        for update in range(updates):
            seen = [row for share in shares for batch in share[update] for row in batch]
            assert seen == list(range(update * per_update, (update + 1) * per_update))
        for share in shares:
            assert len(share) == updates
            for batches in share:
                assert all(len(batch) == size for batch in batches[:-1])
                assert all(0 < len(batch) <= size for batch in batches[-1:])


def test_shares_differ_by_one_row_at_most() -> None:
    for rows, processes in itertools.product(range(1, 30), range(1, 9)):
        counts = [sum(map(len, share[0])) for share in all_batches(rows, 1, processes, 4)]
        assert max(counts) - min(counts) <= 1
        assert sum(counts) == rows


def test_by_hand() -> None:
    assert micro_batches(12, 2, 1, 0, 4) == [[(0, 1, 2, 3), (4, 5)], [(6, 7, 8, 9), (10, 11)]]
    assert micro_batches(12, 2, 2, 1, 4) == [[(3, 4, 5)], [(9, 10, 11)]]
    assert micro_batches(2, 1, 3, 0, 4) == [[]]  # more processes than rows


def test_one_process_holds_the_rows_of_all() -> None:
    alone = micro_batches(24, 2, 1, 0, 3)
    split = all_batches(24, 2, 4, 3)
    for update in range(2):
        together = [batch for share in split for batch in share[update]]
        assert together == alone[update]  # a share of 3 rows is one micro-batch of 3
