"""From a name or a YAML file, and overrides, to a validated recipe.

A recipe file may say ``extends: NAME_OR_FILE``; it then holds only what differs. A mapping merges
with the parent's key by key, anything else replaces, and so does a section of another `kind`.
"""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from functools import reduce
from pathlib import Path

from pydantic import ValidationError

from likewise.config import problems
from likewise.config.layers import Layer, apply, merge, parse_override, sources
from likewise.config.problems import RecipeError
from likewise.config.recipe import Recipe
from likewise.config.yaml_text import dump, parse

_SHIPPED = Path(__file__).parent / "recipes"
_SUFFIXES = (".yaml", ".yml")


def load_recipe(name_or_path: str | Path = "stickers", overrides: Sequence[str] = ()) -> Recipe:
    """A shipped recipe or one from a YAML file, changed by `overrides`, complete and checked.

    Args:
        name_or_path: A name of :func:`shipped_recipes`, or a file.
        overrides: ``a.b.c=value``, the value in YAML (``null``, ``[1, 2]``, ``1e-4``; nothing is
            null), or ``~a.b.c`` to delete a key. A section whose ``kind`` changes loses its other
            keys: ``credit.shaping.kind=minimum`` drops `gamma`.

    Raises:
        RecipeError: there is no such recipe, a file is not a mapping in valid YAML, `extends` goes
            in a circle, an override is malformed, or the result is not a valid recipe. Its message
            has one line per problem, with the file or override and the dotted path of the field.
    """
    files = _read_chain(_find(name_or_path, Path()))
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
    return {
        file.stem: str(_read(file).content.get("description", ""))
        for file in sorted(_SHIPPED.glob("*.yaml"), key=lambda file: file.stem)
    }


def to_yaml(recipe: Recipe) -> str:
    """The recipe in full, defaults included, in the order of its fields.

    Saved in a file, it loads as an equal recipe, whatever later becomes of its parents.
    """
    return dump(recipe.model_dump())


def _find(name_or_path: str | Path, beside: Path) -> Path:
    """The file that is meant; a relative path starts at the directory `beside`."""
    names = [file.stem for file in _SHIPPED.glob("*.yaml")]
    if str(name_or_path) in names:
        return _SHIPPED / f"{name_or_path}.yaml"
    file = beside / name_or_path
    if file.is_dir():
        raise RecipeError(f"{file} is a directory, not a recipe file")
    if file.is_file():
        return file
    is_file_name = file.suffix in _SUFFIXES
    near = get_close_matches(file.stem if is_file_name else file.name, names, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}? " if near else ""
    what = "file" if is_file_name else "recipe"
    raise RecipeError(
        f"there is no {what} {str(file)!r}; {hint}shipped recipes: {', '.join(sorted(names))}"
    )


def _read_chain(file: Path, below: tuple[Path, ...] = ()) -> list[Layer]:
    """The file and all that it extends, the oldest ancestor first.

    Args:
        below: The files that led here by `extends`.
    """
    chain = (*below, file)
    if file.resolve() in [child.resolve() for child in below]:
        circle = " → ".join(map(_label, chain))
        raise RecipeError(f"{_label(below[-1])}: extends: goes in a circle: {circle}")
    layer = _read(file)
    if "extends" not in layer.content:
        return [layer]
    content = dict(layer.content)
    parent = content.pop("extends")
    if not isinstance(parent, str):
        raise RecipeError(f"{layer.label}: extends: should be a recipe or a file, not {parent!r}")
    try:
        parent_file = _find(parent, file.parent)
    except RecipeError as error:
        raise RecipeError(f"{layer.label}: extends: {error}") from error
    return [*_read_chain(parent_file, chain), Layer(layer.label, content)]


def _read(file: Path) -> Layer:
    label = _label(file)
    try:
        text = file.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise RecipeError(f"{label}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise RecipeError(f"{label}: not a text file in UTF-8") from error
    content = parse(text, label)
    if content is None:
        raise RecipeError(
            f"{label}: empty; a recipe has at least 'extends', or 'name' and 'rewards'"
        )
    if not isinstance(content, dict):
        raise RecipeError(
            f"{label}: should be a mapping of keys, as in 'extends: stickers', not {content!r:.60}"
        )
    return Layer(label, content)


def _label(file: Path) -> str:
    """Shipped files are known by name, others by the path that people gave."""
    return file.name if file.parent == _SHIPPED else str(file)


def _source(path: problems.Path, layers: Sequence[Layer], top: Layer) -> str:
    """Where what is at `path` is from, as the start of a message."""
    found = sources(path, layers)
    if len(found) == 1:
        return found[0].label
    overrides = [layer.label.removeprefix("override ") for layer in found if layer.is_override]
    return " with ".join(filter(None, [top.label, ", ".join(overrides)]))
