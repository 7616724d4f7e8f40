"""Templates of a package, in its folder `templates`."""

from __future__ import annotations

from functools import cache, partial
from importlib.resources import files

from jinja2 import Environment, FunctionLoader, StrictUndefined


@cache
def environment(package: str) -> Environment:
    """What renders them: all text is escaped, and an undefined name is an error."""
    return Environment(
        loader=FunctionLoader(partial(read_template, package)),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def read_template(package: str, name: str) -> str:
    """The text of a file there."""
    return (files(package) / "templates" / name).read_text(encoding="utf-8")
