"""The image of a run: which tasks it shows, and in which order."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from PIL import Image
from tiny import a_task, photo

from likewise.evaluation.before_after import before_after_sheet
from likewise.evaluation.items import Item

CELL, CAPTION, MARGIN = 128, 14, 4


def items(folder: Path, colour: str, tasks: int, numbers: int) -> list[Item]:
    folder.mkdir()
    found = []
    for index in range(tasks):
        task = replace(a_task(f"task {index}", photo(8, 8, index)), id=str(index))
        for number in range(numbers):
            name = f"{index}-{number}.png"
            Image.new("RGB", (8, 8), colour if number == 0 else "black").save(folder / name)
            found.append(Item(name, task, number, folder))
    return found


def test_references_stand_above_before_above_after(tmp_path: Path) -> None:
    before = items(tmp_path / "before", "red", 5, 2)
    after = items(tmp_path / "after", "lime", 5, 2)
    sheet = before_after_sheet(before, after, shown=3, columns=2)
    blocks, rows = 2, 3
    row = CELL + CAPTION + MARGIN
    assert sheet.size == (2 * (CELL + MARGIN), blocks * rows * row)

    def at(row_number: int, column: int) -> tuple[int, ...]:
        x, y = column * (CELL + MARGIN) + CELL // 2, row_number * row + CAPTION + CELL // 2
        return sheet.getpixel((x, y))  # type: ignore[return-value]

    red, lime, white = (255, 0, 0), (0, 255, 0), (255, 255, 255)
    assert [at(1, 0), at(2, 0), at(1, 1), at(2, 1)] == [red, lime, red, lime]
    assert [at(4, 0), at(5, 0)] == [red, lime]
    assert at(4, 1) == white  # three tasks fill one and a half blocks
    assert at(0, 0) not in (red, lime, white)
