"""Recipes come in layers, files first and overrides on top: how layers merge, and who set what.

Nothing here changes its arguments.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

from likewise.config.problems import Path, RecipeError, dotted, nearest
from likewise.config.yaml_text import parse_value


@dataclass(frozen=True)
class Layer:
    """A file's content, or that of one override as a nested mapping."""

    label: str
    content: Mapping[str, Any]
    is_override: bool = False


@dataclass(frozen=True)
class Override:
    """``a.b.c=value``, or ``~a.b.c``, which deletes."""

    text: str
    path: tuple[str, ...]
    value: Any = None

    @property
    def deletes(self) -> bool:
        return self.text.startswith("~")

    def layer(self) -> Layer:
        content = self.value
        for key in reversed(self.path):
            content = {key: content}
        return Layer(f"override {self.text}", content, is_override=True)


def parse_override(text: str) -> Override:
    """Read ``a.b.c=value`` (value is YAML; nothing after ``=`` is null) or ``~a.b.c``.

    Raises:
        RecipeError: neither form, an empty key, or a value that is not valid YAML.
    """
    text = text.strip()
    target, equals, value = text.removeprefix("~").partition("=")
    if text.startswith("~") and equals:
        raise RecipeError(f"override {text}: ~ deletes a key and takes no value, as in ~a.b")
    if not text.startswith("~") and not equals:
        raise RecipeError(
            f"override {text!r} has no '='; write key=value, for example rollout.group_size=8, "
            "or ~key to delete a key"
        )
    path = tuple(key.strip() for key in target.split("."))
    if not all(path):
        raise RecipeError(
            f"override {text!r} has an empty key; write dotted keys, as in rollout.group_size=8"
        )
    return Override(text, path, parse_value(value, f"override {text}"))


def merge(parent: Mapping[Any, Any], child: Mapping[Any, Any]) -> dict[Any, Any]:
    """`child` over `parent`: mappings merge key by key, anything else of the child's replaces.

    Where both say `kind` and differ, the child's mapping replaces the parent's, whose other keys
    belong to another kind.
    """
    kinds = [mapping.get("kind") for mapping in (parent, child)]
    if all(isinstance(kind, str) for kind in kinds) and kinds[0] != kinds[1]:
        return copy.deepcopy(dict(child))
    merged = copy.deepcopy(dict(parent))
    for key, value in child.items():
        below = merged.get(key)
        if isinstance(below, dict) and isinstance(value, Mapping):
            merged[key] = merge(below, value)
        else:
            merged[key] = copy.deepcopy(value)
    return merged


def apply(overrides: Sequence[Override], content: Mapping[str, Any]) -> dict[str, Any]:
    """`content` after all overrides; of two for one key, the later counts.

    Neighbours are merged with each other first, so that ``shaping.reward=…`` may stand before the
    ``shaping.kind=…`` that it belongs to.

    Raises:
        RecipeError: a key to delete is not there.
    """
    changed = merge(content, {})
    for deletes, group in itertools.groupby(overrides, lambda override: override.deletes):
        if deletes:
            for override in group:
                _delete(changed, override)
        else:
            changed = merge(changed, reduce(merge, [o.layer().content for o in group]))
    return changed


def sources(path: Path, layers: Sequence[Layer]) -> list[Layer]:
    """The layers behind what is at `path`, lowest first.

    A single value has one source, the last that set it. A section has all that set any of its
    keys; so has a path that nobody set, by the section around it.
    """
    found = [(layer, value[0]) for layer in layers if (value := _get(layer.content, path))]
    if not found:
        return sources(path[:-1], layers) if path else []
    if not isinstance(found[-1][1], Mapping):
        return [found[-1][0]]
    return [layer for layer, _ in found]


def _get(content: Any, path: Path) -> tuple[Any] | None:
    for key in path:
        if not isinstance(content, Mapping) or key not in content:
            return None
        content = content[key]
    return (content,)


def _delete(content: dict[str, Any], override: Override) -> None:
    *section, key = override.path
    found = _get(content, tuple(section))
    if not found or not isinstance(found[0], dict):
        raise RecipeError(f"override {override.text}: there is no section {dotted(tuple(section))}")
    if key not in found[0]:
        hint = nearest(key, map(str, found[0]))
        raise RecipeError(f"override {override.text}: there is no {dotted(override.path)}; {hint}")
    del found[0][key]
