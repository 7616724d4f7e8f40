"""Images in a page: samples of tasks drawn by several systems, and the worst of one."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from likewise.images import open_image
from likewise.report.document import Card, Gallery, Shown
from likewise.report.reading import Drawn
from likewise.report.wording import number, plain

# Benchmark → task → the image that conditions the generator; empty if it cannot be had.
References = Callable[[str], Mapping[str, Image.Image]]
Row = dict[str, Any]

SIDE = 256  # pixels; larger images are made smaller
QUALITY = 88  # of WebP
LABELS = ("subject", "kind", "complexity")


@dataclass(frozen=True)
class System:
    """What drew, under the title to show."""

    title: str
    drawn: Drawn

    def by_task(self) -> dict[str, Row]:
        """Task → its first image's row."""
        found: dict[str, Row] = {}
        for row in self.drawn.scores.to_pylist():
            found.setdefault(row["task"], row)
        return found


def data_address(image: Image.Image, side: int = SIDE) -> str:
    """The image as WebP inside the address, at most `side` pixels wide and high."""
    small = image.convert("RGB")
    small.thumbnail((side, side), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    small.save(file, "WEBP", quality=QUALITY, method=4)
    return "data:image/webp;base64," + base64.b64encode(file.getvalue()).decode()


def read_address(file: Path, side: int = SIDE) -> str | None:
    """As `data_address`; None if the file is not there.

    Raises:
        ValueError: the file is not an image that can be used.
    """
    return data_address(open_image(file), side) if file.is_file() else None


def sample_gallery(
    title: str, systems: Sequence[System], references: Mapping[str, Image.Image], count: int
) -> Gallery:
    """`count` tasks that all systems drew, evenly over kinds of prompts."""
    tables = [system.by_task() for system in systems]
    rows = [row for task, row in tables[-1].items() if all(task in table for table in tables)]
    chosen = _spread(rows, count)
    cards = [
        _card(row, [_image(s, t[row["task"]]) for s, t in zip(systems, tables, strict=True)],
              references)
        for row in chosen
    ]  # fmt: skip
    filters = {label: _values(chosen, label) for label in LABELS}
    return Gallery(title, cards, {label: found for label, found in filters.items() if found[1:]})


def worst_gallery(
    title: str,
    metric: str,
    before: System,
    after: Sequence[System],
    references: Mapping[str, Image.Image],
    count: int,
    by_drop: bool,
) -> Gallery:
    """Images of `after` (one system per seed) that score lowest, or fell most from `before`."""
    old = before.by_task()
    found = []
    for system in after:
        for task, row in system.by_task().items():
            if task in old and None not in (row[metric], old[task][metric]):
                change = row[metric] - old[task][metric]
                found.append((change if by_drop else row[metric], change, task, system, row))
    found.sort(key=lambda one: (*one[:3], one[3].title))
    seen: dict[str, Card] = {}  # one card per task, so that more can be seen
    for _, change, task, system, row in found:
        if len(seen) < count and task not in seen and (change < 0 or not by_drop):
            images = [_image(before, old[task]), _image(system, row)]
            seen[task] = _card(row, images, references)
    return Gallery(title, list(seen.values()))


def _spread(rows: Sequence[Row], count: int) -> list[Row]:
    """`count` rows: equally many of every kind, from all over the table, in its order."""
    kinds: dict[Any, list[int]] = {}
    for index, row in enumerate(rows):
        kinds.setdefault(row["kind"], []).append(index)
    kept: list[int] = []
    for left, indices in enumerate(sorted(kinds.values(), key=len)):
        share = min(len(indices), (count - len(kept)) // (len(kinds) - left))
        kept += [indices[n * len(indices) // share] for n in range(share)]
    return [rows[index] for index in sorted(kept)]


def _card(row: Row, images: Sequence[Shown | None], references: Mapping[str, Image.Image]) -> Card:
    labels = {label: str(row[label]) for label in LABELS if row.get(label) is not None}
    shown = [image for image in images if image is not None]
    if (reference := references.get(row["task"])) is not None:
        address = data_address(reference)
        shown.insert(0, Shown(address, "reference", f"reference image of {row['subject']}"))
    return Card(row["prompt"], labels, shown)


def _image(system: System, row: Row) -> Shown | None:
    address = read_address(system.drawn.folder / row["file"])
    if address is None:
        return None
    return Shown(address, system.title, f"“{row['prompt']}” by {system.title}", _scores(row))


def _scores(row: Row) -> str:
    """What the evaluators say of an image; else the rewards."""
    evaluators = {name: row[name] for name in row if name.startswith("evaluator/")}
    shown = evaluators or {name: row[name] for name in row if name.startswith("reward/")}
    return ", ".join(_score(name, value) for name, value in shown.items() if value is not None)


def _score(name: str, value: float) -> str:
    if name == "evaluator/prompt" and value in (0, 1):
        return "prompt ✓" if value else "prompt ✗"
    if name == "evaluator/identity":
        return f"subject {number(value, '.2f')}"
    return f"{plain(name)} {number(value, '.2f')}"


def _values(rows: Sequence[Row], label: str) -> list[str]:
    return sorted({str(row[label]) for row in rows if row.get(label) is not None})
