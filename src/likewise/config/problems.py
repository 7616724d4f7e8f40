"""What is wrong with a recipe, in words: one line per problem, each naming source and field."""

from __future__ import annotations

import re
import reprlib
import types
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

Path = tuple[str | int, ...]
MOST_PROBLEMS = 100  # in one message; whoever has more reads no further

_WANTS_MAPPING = {"model_type", "model_attributes_type", "dict_type"}


class RecipeError(ValueError):
    """A recipe cannot be read; the message says all there is to know."""


def nearest(name: object, known: Iterable[str]) -> str:
    """The end of a message about an unknown name: the one that was meant, or all there are."""
    known = list(known)
    near = get_close_matches(str(name), known, n=1, cutoff=0.5)
    return f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"


@dataclass(frozen=True)
class _Location:
    """Where in a recipe an error is."""

    path: Path
    section: Any  # type of what holds the field; None if unknown
    kind: object  # of that section, where it is one of several
    wanted: Any  # type of the field; None if unknown


def describe(error: ValidationError, root: type[BaseModel], source: Callable[[Path], str]) -> str:
    """One line per field of `root` that `error` is about: ``source: dotted.path: what is wrong``.

    Args:
        source: Which file or override a path is from.
    """
    found: dict[Path, list[str]] = {}  # a plain union has one problem per member: one line
    given: dict[Path, str] = {}
    for detail in error.errors(include_url=False)[:MOST_PROBLEMS]:
        path, message = _explain(detail, _locate(root, detail["loc"]))
        found.setdefault(path, []).append(message)
        given[path] = f", not {_short(detail['input'])}" if message.startswith("should ") else ""
    lines = [
        ": ".join(filter(None, [source(path), dotted(path), " or ".join(messages) + given[path]]))
        for path, messages in found.items()
    ]
    more = error.error_count() - MOST_PROBLEMS
    return "\n".join(lines) + (f"\nand {more:,} more" if more > 0 else "")


def dotted(path: Path) -> str:
    return ".".join(map(str, path))


def _explain(detail: Any, where: _Location) -> tuple[Path, str]:
    """Path and message of one of pydantic's errors; "should …" wants what was given after it."""
    error, given, path, wanted = detail["type"], detail["input"], where.path, where.wanted
    if error == "extra_forbidden":
        of_kind = f" of kind {where.kind!r}" if where.kind else ""
        return path, f"unknown key{of_kind}; {_meant(path[-1], where.section)}"
    if error == "missing":
        return path, "required, but missing"
    if error == "union_tag_not_found":
        return (*path, "kind"), f"required, but missing; known: {', '.join(kinds(wanted))}"
    if error == "union_tag_invalid":
        tag = detail["ctx"]["tag"]
        return (*path, "kind"), f"unknown kind {tag!r}; {nearest(tag, kinds(wanted))}"
    if error == "literal_error" and get_origin(wanted) is Literal:
        noun = "kind" if path[-1:] == ("kind",) else "value"
        return path, f"unknown {noun} {_short(given)}; {nearest(given, get_args(wanted))}"
    if error == "int_parsing_size":
        return path, "should be a smaller number"
    if error in _WANTS_MAPPING:
        if given in kinds(wanted):
            return path, f"{given!r} is a kind; write {dotted(path)}.kind={given}"
        return path, "should be a mapping of keys"
    return path, re.sub(r"^(Value error, |(Input|String) (?=should ))", "", detail["msg"])


def _meant(key: str | int, section: type[BaseModel]) -> str:
    """As `nearest`, of a section's keys as they are written, and of what others call them."""
    known = [field.alias or name for name, field in section.model_fields.items()]
    names = {name: field.alias for name, field in section.model_fields.items() if field.alias}
    names |= getattr(section, "ALIASES", {})
    return f"did you mean {names[key]!r}?" if key in names else nearest(key, known)


def _locate(root: Any, loc: Path) -> _Location:
    """Follow pydantic's `loc`, which has a word of its own at every union: the member it tried."""
    path: Path = ()
    section, kind, here = None, None, root
    tried = None
    for part in loc:
        here = _bare(here)
        if len(_members(here)) > 1:
            tried = part
            here = next((m for m in _members(here) if part in kinds(m)), None)
        else:
            path = (*path, part)
            section, kind, here = here, tried, _child(here, part)
            tried = None
    return _Location(path, section, kind, _bare(here))


def _child(section: Any, key: str | int) -> Any:
    """Type of what a section, a dict or a list holds at `key`; None if unknown."""
    if is_section(section):
        field = section.model_fields.get(key)
        return field.annotation if field else None
    return get_args(section)[-1] if get_origin(section) in (dict, list) else None


def is_section(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def kinds(annotation: Any) -> list[str]:
    """The values of `kind` by which a section, or one of a union of sections, is chosen."""
    sections = [member for member in _members(annotation) if is_section(member)]
    fields = [s.model_fields["kind"] for s in sections if "kind" in s.model_fields]
    return [value for field in fields for value in get_args(field.annotation)]


def _members(annotation: Any) -> list[Any]:
    """The types of a union, without None; any other type is its only member."""
    if get_origin(annotation) in (Union, types.UnionType):
        return [_bare(m) for m in get_args(annotation) if m is not type(None)]
    return [annotation]


def _bare(annotation: Any) -> Any:
    """`annotation` without Annotated, and without an alternative None."""
    if get_origin(annotation) is Annotated:
        return _bare(get_args(annotation)[0])
    members = _members(annotation)
    return members[0] if len(members) == 1 else annotation


def _short(value: object) -> str:
    limited = reprlib.Repr()
    limited.maxstring = limited.maxother = 60
    return limited.repr(value)
