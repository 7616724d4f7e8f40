"""Templates and what they share."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined


def render(template: str, **values: Any) -> str:
    """A page; all text is escaped."""
    return _environment().get_template(template).render(**values)


def static_file(name: str) -> bytes | None:
    """A script or style sheet of the app; None if there is none of that name."""
    found = files("likewise.app") / "static" / name
    return found.read_bytes() if "/" not in name and found.is_file() else None


@cache
def _environment() -> Environment:
    return Environment(
        loader=FunctionLoader(_template),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _template(name: str) -> str:
    return (files("likewise.app") / "templates" / name).read_text(encoding="utf-8")
