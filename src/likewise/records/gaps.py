"""What a run's records lack, in words."""

from __future__ import annotations

from collections.abc import Collection, Iterable

SHOWN = 5  # ranges named in one phrase


def lacking(name: str, known: Collection[int | None], last: int) -> str:
    """ "metrics.jsonl lacks iterations 3–5, 9"; empty if all from 1 to `last` are known."""
    missing = [iteration for iteration in range(1, last + 1) if iteration not in known]
    if not missing:
        return ""
    if len(missing) == last > 1:
        return f"{name} lacks all {last} iterations"
    found = list(_ranges(missing))
    more = f" and {len(found) - SHOWN} more ranges" if len(found) > SHOWN else ""
    noun = "iterations" if len(missing) > 1 else "iteration"
    return f"{name} lacks {noun} {', '.join(found[:SHOWN])}{more}"


def _ranges(numbers: Iterable[int]) -> Iterable[str]:
    """Rising numbers as "1–3", "7"."""
    first = last = None
    for number in numbers:
        if last is not None and number == last + 1:
            last = number
            continue
        if first is not None:
            yield _range(first, last)
        first = last = number
    if first is not None:
        yield _range(first, last)


def _range(first: int, last: int | None) -> str:
    return str(first) if first == last else f"{first}–{last}"
