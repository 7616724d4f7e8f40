"""Which changes to a recipe would make it fit, the cheapest first."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import combinations

Change = tuple[str, ...]  # overrides that belong together
CHECKPOINTING: Change = ("policy.gradient_checkpointing=true",)
OFFLOAD: Change = ("policy.offload=true", "policy.cache=embeddings")
SPREAD: Change = ("run.sharding=fsdp2",)
NARROW: Change = ("policy.dtype=bfloat16",)


def micro_batches(current: int) -> list[Change]:
    """Half of it, a quarter, …, 1."""
    halves: list[Change] = []
    while current > 1:
        current //= 2
        halves.append((f"rollout.micro_batch={current}",))
    return halves


def fitting(
    choices: Sequence[Sequence[Change]], needed: Callable[[Change], int], limit: int, most: int = 3
) -> list[tuple[Change, int]]:
    """Combinations that need no more than `limit` bytes, with what they need; the shortest first.

    Args:
        choices: Of each only one change is taken, the first that suffices; in the order in which
            they are liked.
        needed: Bytes with these changes.
        most: How many to give.
    """
    found: list[tuple[Change, int]] = []
    used: list[set[int]] = []
    for count in range(1, len(choices) + 1):
        for chosen in combinations(range(len(choices)), count):
            if any(shorter <= set(chosen) for shorter in used):
                continue
            best = _first(_products([choices[number] for number in chosen]), needed, limit)
            if best is not None:
                found.append(best)
                used.append(set(chosen))
            if len(found) == most:
                return found
    return found


def _first(
    changes: Iterable[Change], needed: Callable[[Change], int], limit: int
) -> tuple[Change, int] | None:
    for change in changes:
        size = needed(change)
        if size <= limit:
            return change, size
    return None


def _products(choices: Sequence[Sequence[Change]]) -> Iterable[Change]:
    if not choices:
        yield ()
        return
    for first in choices[0]:
        for rest in _products(choices[1:]):
            yield (*first, *rest)
