"""What a report is made of: sections of blocks. Templates turn each kind of block into HTML."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar


@dataclass(frozen=True)
class Text:
    """A paragraph; `lead` is larger."""

    kind: ClassVar = "text"
    text: str
    lead: bool = False


@dataclass(frozen=True)
class Bullets:
    kind: ClassVar = "bullets"
    items: Sequence[str]


@dataclass(frozen=True)
class Code:
    """Preformatted text; with a title it is folded away under it."""

    kind: ClassVar = "code"
    text: str
    title: str = ""


@dataclass(frozen=True)
class Figure:
    """A plot.

    Attributes:
        svg: From `plots`.
        alt: What it shows, for those who cannot see it.
    """

    svg: str
    caption: str
    alt: str
    wide: bool = False


@dataclass(frozen=True)
class Figures:
    """As many beside each other as there is room for; with `pairs` at most two."""

    kind: ClassVar = "figures"
    figures: Sequence[Figure]
    pairs: bool = False


@dataclass(frozen=True)
class Cell:
    """One cell of a table.

    Attributes:
        text: Large.
        note: Small, below: an interval.
        order: What the column is sorted by; None for words.
        best: The column's best.
    """

    text: str
    note: str = ""
    order: float | None = None
    best: bool = False


@dataclass(frozen=True)
class Table:
    """Rows whose first cell is their heading; `caption` is above."""

    kind: ClassVar = "table"
    caption: str
    header: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    notes: str = ""
    sortable: bool = False


@dataclass(frozen=True)
class Shown:
    """An image of a gallery.

    Attributes:
        source: A data: address.
        title: Which system drew it.
        note: How it scored.
    """

    source: str
    title: str
    alt: str
    note: str = ""


@dataclass(frozen=True)
class Card:
    """Images of one task beside each other; `labels` (name → value) are what filters choose."""

    prompt: str
    labels: dict[str, str]
    images: Sequence[Shown]


@dataclass(frozen=True)
class Gallery:
    """Cards under a title.

    Attributes:
        filters: Label → its values, for the menus; empty for a gallery without.
    """

    kind: ClassVar = "gallery"
    title: str
    cards: Sequence[Card]
    filters: dict[str, Sequence[str]] = field(default_factory=dict)


Block = Text | Bullets | Code | Figures | Table | Gallery


@dataclass(frozen=True)
class Section:
    """A part of the page.

    Attributes:
        slug: Its address inside the page.
    """

    slug: str
    title: str
    blocks: Sequence[Block]
