"""Who sees what: booklets of pairs, balanced and in random order. Pure functions of a seed."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np


@dataclass(frozen=True)
class Showing:
    """One pair in a rater's booklet.

    Attributes:
        pair: Its number.
        flipped: Whether its first image is on the right.
    """

    pair: int
    flipped: bool


def choose_tasks(subjects: Sequence[Hashable], count: int, rng: np.random.Generator) -> list[int]:
    """`count` of the tasks, by index, evenly over subjects: one of each in turn, at random.

    Args:
        subjects: Of each task.
    """
    turns: dict[Hashable, int] = {}
    ranked: list[tuple[int, int, int]] = []
    for index in rng.permutation(len(subjects)):
        turn = turns.get(subjects[index], 0)
        turns[subjects[index]] = turn + 1
        ranked.append((turn, len(ranked), int(index)))
    return [index for _, _, index in sorted(ranked)[:count]]


def share_out(count: int, systems: Sequence[str]) -> dict[tuple[str, str], int]:
    """So many pairs shared out over all pairs of systems, as evenly as can be."""
    couples = list(combinations(systems, 2))
    least, more = divmod(count, len(couples))
    return {couple: least + (index < more) for index, couple in enumerate(couples)}


def booklets(
    pairs: int,
    raters_per_pair: int,
    pairs_per_rater: int,
    checks: Sequence[int],
    rng: np.random.Generator,
) -> list[list[Showing]]:
    """Booklets such that every pair is in exactly `raters_per_pair` of them, and in none twice.

    Each takes the pairs that are in the fewest booklets so far, at random among equals: such a
    choice never ends in a dead end (Gale and Ryser). All booklets have `pairs_per_rater` pairs but
    the last, which may have fewer, and every one has all checks. Over a pair's booklets its first
    image is as often left as right, or once more.

    Args:
        pairs: How many there are, numbered from 0.
        checks: Numbers of the pairs whose answer is known.

    Raises:
        ValueError: a rater would have to see a pair twice.
    """  # fmt: skip
    if not 1 <= pairs_per_rater <= pairs:
        raise ValueError(f"a rater can see 1 to {pairs} pairs, not {pairs_per_rater}")
    left = np.full(pairs, raters_per_pair)
    sides = [_sides(raters_per_pair, rng) for _ in range(pairs)]
    found = []
    for number in range(math.ceil(pairs * raters_per_pair / pairs_per_rater)):
        size = min(pairs_per_rater, int(left.sum()))
        order = np.lexsort((rng.random(pairs), -left))[:size]
        left[order] -= 1
        content = [Showing(int(pair), sides[pair].pop()) for pair in order]
        content += [Showing(check, bool((number + index) % 2)) for index, check in
                    enumerate(checks)]  # fmt: skip
        found.append([content[index] for index in rng.permutation(len(content))])
    return found


def _sides(count: int, rng: np.random.Generator) -> list[bool]:
    """Half of them true, in random order; of an odd number the last is at random."""
    sides = [index % 2 == 0 for index in range(count)]
    if count % 2 and rng.random() < 0.5:
        sides = [not side for side in sides]
    return [sides[index] for index in rng.permutation(count)]
