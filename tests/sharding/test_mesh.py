"""How many processes share one copy of the weights."""

from __future__ import annotations

import pytest

from likewise.sharding.mesh import shards_of_a_copy

EIGHT_A_MACHINE = {"LOCAL_WORLD_SIZE": "8"}


@pytest.mark.parametrize(
    ("sharding", "processes", "size", "wanted"),
    [
        ("none", 16, None, 1),
        ("fsdp2", 16, None, 16),
        ("fsdp2", 1, None, 1),
        ("hybrid", 16, None, 8),
        ("hybrid", 16, 4, 4),
        ("hybrid", 1, None, 1),
    ],
)
def test_a_copy_is_spread_over(
    sharding: str, processes: int, size: int | None, wanted: int
) -> None:
    assert shards_of_a_copy(sharding, processes, size, EIGHT_A_MACHINE) == wanted


@pytest.mark.parametrize(
    ("processes", "size", "message"),
    [
        (8, None, "8 processes with 8 in a copy make one: use fsdp2, or set run.shard_size lower"),
        (4, 4, "make one"),
        (12, None, "12 processes cannot be divided into copies of 8"),
        (16, 3, "set run.shard_size to a divisor"),
    ],
)
def test_copies_that_do_not_fit_are_refused(processes: int, size: int | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        shards_of_a_copy("hybrid", processes, size, EIGHT_A_MACHINE)


def test_one_machine_is_one_copy() -> None:
    """The launcher of a run itself sets no number of processes of a machine."""
    with pytest.raises(ValueError, match="use fsdp2"):
        shards_of_a_copy("hybrid", 4, None, {})
