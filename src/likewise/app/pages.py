"""Templates and what they share."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from likewise.app.catalogue import Found
from likewise.printable import printable
from likewise.report.templating import environment

PACKAGE = "likewise.app"


@dataclass(frozen=True)
class Option:
    """One thing to choose on a page.

    Attributes:
        label: As short as it can be beside the others.
        path: All of it, as seen from the named folder.
    """

    id: str
    label: str
    path: str
    chosen: bool


def options(found: Sequence[Found], chosen: Collection[str]) -> list[Option]:
    """What was found, labelled without the folders that all have in common.

    Args:
        chosen: Identifiers.
    """
    plain = [_plain(one.label) for one in found]
    if len(set(plain)) < len(plain):  # a run that was evaluated several times
        plain = [one.label for one in found]
    labels = _without_common(plain)
    return [
        Option(one.id, printable(label), printable(one.label), one.id in chosen)
        for one, label in zip(found, labels, strict=True)
    ]


def _plain(label: str) -> str:
    """A run's images by run and when they were drawn: RUN/after for RUN/evaluation/NAME/after."""
    parts = label.split("/")
    if len(parts) > 3 and parts[-3] == "evaluation":
        return "/".join([*parts[:-3], parts[-1]])
    return label


def _without_common(labels: Sequence[str]) -> list[str]:
    """Paths without the folders in front that all of them share."""
    parts = [label.split("/") for label in labels]
    while len(parts) > 1 and all(len(one) > 1 and one[0] == parts[0][0] for one in parts):
        parts = [one[1:] for one in parts]
    return ["/".join(one) for one in parts]


def render(template: str, **values: Any) -> str:
    """A page; all text is escaped."""
    return environment(PACKAGE).get_template(template).render(**values)


def static_file(name: str) -> bytes | None:
    """A script or style sheet of the app; None if there is none of that name."""
    found = files(PACKAGE) / "static" / name
    return found.read_bytes() if "/" not in name and found.is_file() else None
