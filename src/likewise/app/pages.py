"""Templates and what they share."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

from likewise.report.templating import environment

PACKAGE = "likewise.app"


def render(template: str, **values: Any) -> str:
    """A page; all text is escaped."""
    return environment(PACKAGE).get_template(template).render(**values)


def static_file(name: str) -> bytes | None:
    """A script or style sheet of the app; None if there is none of that name."""
    found = files(PACKAGE) / "static" / name
    return found.read_bytes() if "/" not in name and found.is_file() else None
