"""The same tasks from the same noise, before and after training, as one image."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image

from likewise.evaluation.items import Item
from likewise.sheets import contact_sheet, short_caption


def before_after_sheet(
    before: Sequence[Item], after: Sequence[Item], shown: int = 16, columns: int = 8
) -> Image.Image:
    """The first `shown` tasks in blocks of three rows: reference, before, after.

    Args:
        before, after: Of the same tasks in the same order; of a task with several images the
            first is shown.
    """
    pairs = [(old, new) for old, new in zip(before, after, strict=True) if old.number == 0][:shown]
    rows: list[tuple[list[str], list[Image.Image]]] = []
    for start in range(0, len(pairs), columns):
        part = pairs[start : start + columns]
        tasks = [old.task for old, _ in part]
        rows.append(([short_caption(task) for task in tasks], [task.reference for task in tasks]))
        rows.append((["before"] * len(part), [old.image() for old, _ in part]))
        rows.append((["after"] * len(part), [new.image() for _, new in part]))
    return contact_sheet(rows)
