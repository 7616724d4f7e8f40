"""A part of a benchmark that is like the whole."""

from __future__ import annotations

from collections.abc import Sequence
from math import gcd

from likewise.types import Task

_STRIDE = 23  # has no factor in common with 30 subjects × 25 prompts


def spread(tasks: Sequence[Task], count: int) -> list[Task]:
    """`count` tasks spread evenly over subjects and over each subject's prompts; at most all.

    A larger subset contains the smaller ones. In a benchmark of 750, subject by subject, no
    prompt's number repeats within 25.
    """
    stride = _STRIDE
    while gcd(stride, len(tasks) or 1) > 1:  # else a task would repeat
        stride += 1
    return [tasks[number * stride % len(tasks)] for number in range(min(count, len(tasks)))]
