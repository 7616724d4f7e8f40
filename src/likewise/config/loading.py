"""From a name or a YAML file, and overrides, to a validated recipe.

A recipe file may say ``extends: NAME_OR_FILE``; it then holds only what differs. A mapping merges
with the parent's key by key, anything else replaces, and so does a section of another `kind`.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from pathlib import Path

from pydantic import ValidationError

from likewise.config import problems
from likewise.config.layers import Layer, apply, merge, parse_override, sources
from likewise.config.problems import RecipeError
from likewise.config.recipe import Recipe
from likewise.config.yaml_files import Shelf
from likewise.config.yaml_text import dump

RECIPES = Shelf(
    "recipe",
    "recipes",
    Path(__file__).parent / "recipes",
    "'extends', or 'name' and 'rewards'",
    "extends: stickers",
)


def load_recipe(name_or_path: str | Path = "stickers", overrides: Sequence[str] = ()) -> Recipe:
    """A shipped recipe or one from a YAML file, changed by `overrides`, complete and checked.

    Args:
        name_or_path: A name of `shipped_recipes`, or a file.
        overrides: ``a.b.c=value``, the value in YAML (``null``, ``[1, 2]``, ``1e-4``; nothing is
            null), or ``~a.b.c`` to delete a key. A section whose ``kind`` changes loses its other
            keys: ``credit.shaping.kind=minimum`` drops `gamma`.

    Raises:
        RecipeError: there is no such recipe, a file is not a mapping in valid YAML, `extends` goes
            in a circle, an override is malformed, or the result is not a valid recipe. Its message
            has one line per problem, with the file or override and the dotted path of the field.
    """
    files = _read_chain(RECIPES.find(name_or_path, Path()))
    changes = [parse_override(text) for text in overrides]
    content = apply(changes, reduce(merge, [layer.content for layer in files], {}))
    try:
        return Recipe.model_validate(content)
    except ValidationError as error:
        layers = [*files, *(change.layer() for change in changes)]
        message = problems.describe(error, Recipe, lambda path: _source(path, layers, files[-1]))
        raise RecipeError(message) from error


def shipped_recipes() -> dict[str, str]:
    """Name → description of every recipe in the package, sorted by name."""
    return RECIPES.descriptions()


def to_yaml(recipe: Recipe) -> str:
    """The recipe in full, defaults included, in the order of its fields.

    Saved in a file, it loads as an equal recipe, whatever later becomes of its parents.
    """
    return dump(recipe.model_dump())


def _read_chain(file: Path, below: tuple[Path, ...] = ()) -> list[Layer]:
    """The file and all that it extends, the oldest ancestor first.

    Args:
        below: The files that led here by `extends`.
    """
    chain = (*below, file)
    if file.resolve() in [child.resolve() for child in below]:
        circle = " → ".join(map(RECIPES.label, chain))
        raise RecipeError(f"{RECIPES.label(below[-1])}: extends: goes in a circle: {circle}")
    layer = RECIPES.read(file)
    if "extends" not in layer.content:
        return [layer]
    content = dict(layer.content)
    parent = content.pop("extends")
    if not isinstance(parent, str):
        raise RecipeError(f"{layer.label}: extends: should be a recipe or a file, not {parent!r}")
    try:
        parent_file = RECIPES.find(parent, file.parent)
    except RecipeError as error:
        raise RecipeError(f"{layer.label}: extends: {error}") from error
    return [*_read_chain(parent_file, chain), Layer(layer.label, content)]


def _source(path: problems.Path, layers: Sequence[Layer], top: Layer) -> str:
    """Where what is at `path` is from, as the start of a message."""
    found = sources(path, layers)
    if len(found) == 1:
        return found[0].label
    overrides = [layer.label.removeprefix("override ") for layer in found if layer.is_override]
    return " with ".join(filter(None, [top.label, ", ".join(overrides)]))
