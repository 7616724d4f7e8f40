"""Rows of numbers as JSON lines: appended one by one, safe against a crash in between.

A line counts once its newline is written. What follows the last newline was torn by a crash:
reading ignores it, and the next row takes its place.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from numbers import Integral, Real
from pathlib import Path
from typing import Any, BinaryIO

from likewise.records.files import fsync_path, write_atomically

Number = float | int | None


def append_row(file: Path, row: Mapping[str, Number]) -> None:
    """Add one line and force it to the disk. Floats keep every bit; NaN and ±inf become null.

    Raises:
        ValueError: the row has no whole-number `iteration`.
        TypeError: a value is no number (NumPy's are numbers, arrays are not).
    """
    if not isinstance(row.get("iteration"), Integral):
        raise ValueError(f"a row needs its iteration, a whole number: {dict(row)}")
    numbers = {key: _number(key, value) for key, value in row.items()}
    line = json.dumps(numbers, allow_nan=False, ensure_ascii=False) + "\n"
    is_new = not file.exists()
    with file.open("a+b") as lines:
        _cut_torn_line(lines)
        lines.write(line.encode())
        lines.flush()
        os.fsync(lines.fileno())
    if is_new:
        fsync_path(file.parent)


def read_rows(file: Path) -> list[dict[str, Any]]:
    """All rows in order; none if there is no file.

    Raises:
        ValueError: a line is not a JSON object with an iteration; the message says which.
    """
    return [row for _, row in _read(file)]


def drop_rows_after(file: Path, iteration: int) -> None:
    """Rewrite the file without rows of later iterations, and without a torn last line.

    Raises:
        ValueError: as `read_rows`.
    """
    kept = b"".join(line + b"\n" for line, row in _read(file) if row["iteration"] <= iteration)
    if file.exists() and kept != file.read_bytes():
        write_atomically(file, kept)


def _read(file: Path) -> list[tuple[bytes, dict[str, Any]]]:
    if not file.exists():
        return []
    found = []
    for count, line in enumerate(file.read_bytes().split(b"\n")[:-1], start=1):
        try:
            row = json.loads(line)
        except ValueError:
            row = None
        if not isinstance(row, dict) or not isinstance(row.get("iteration"), int):
            text = line[:60].decode(errors="replace")
            raise ValueError(f"{file}, line {count}: not a JSON row with an iteration: {text!r}")
        found.append((line, row))
    return found


def _cut_torn_line(lines: BinaryIO) -> None:
    size = lines.seek(0, os.SEEK_END)
    lines.seek(max(size - 1, 0))
    if lines.read() not in (b"", b"\n"):
        lines.seek(0)
        lines.truncate(lines.read().rfind(b"\n") + 1)


def _number(key: str, value: Any) -> Number:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, Real):
        return float(value) if math.isfinite(value) else None
    raise TypeError(f"{key} must be a number or None, not {type(value).__name__}")
