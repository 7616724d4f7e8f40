"""Where two recipes differ."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from likewise.config.problems import Path, dotted
from likewise.config.recipe import Recipe


def leaves(recipe: Recipe) -> dict[str, Any]:
    """Dotted name → value of every field that is not a section; lists are values."""

    return flattened(recipe.model_dump())


def flattened(content: Mapping[str, Any]) -> dict[str, Any]:
    """As `leaves`, of a recipe's content."""

    def walk(path: Path, value: Any) -> Iterator[tuple[str, Any]]:
        if isinstance(value, dict):
            for key, inner in value.items():
                yield from walk((*path, key), inner)
        else:
            yield dotted(path), value

    return dict(walk((), content))


def is_under(name: str, sections: Sequence[str]) -> bool:
    """Whether a dotted name is one of `sections`, or in one of them."""
    return any(f"{name}.".startswith(f"{section}.") for section in sections)


def differences(one: Recipe, other: Recipe, apart_from: Sequence[str]) -> list[str]:
    """What differs, as ``rollout.tasks is 8, not 16``: `one` first, `other` after "not".

    Args:
        apart_from: Dotted names that may differ; a section's stands for all that is in it.
    """
    here, there = leaves(one), leaves(other)
    return [
        f"{name} is {here.get(name, 'not set')!r}, not {there.get(name, 'not set')!r}"
        for name in dict.fromkeys([*here, *there])
        if here.get(name) != there.get(name) and not is_under(name, apart_from)
    ]
