"""Rows of numbers as JSON lines: appended one by one, safe against a crash in between.

A line counts once its newline is written. What follows the last newline was torn by a crash:
reading ignores it, and the next row takes its place. What editors and copying do to such a file
(CRLF, a byte order mark, empty lines, a row twice) is read as if it were not there.
"""

from __future__ import annotations

import json
import math
import os
from codecs import BOM_UTF8
from collections.abc import Mapping
from numbers import Integral, Real
from pathlib import Path
from typing import Any, BinaryIO

from likewise.records.atomic import fsync_path, naming, write_atomically

Number = float | int | None


def append_row(file: Path, row: Mapping[str, Number]) -> None:
    """Add one line and force it to the disk. Floats keep every bit; NaN and ±inf become null.

    Raises:
        ValueError: the row has no whole-number `iteration`.
        TypeError: a value is not a number (NumPy's are numbers, arrays are not).
        OSError: the file cannot be written, or the disk is full.
    """
    if not isinstance(row.get("iteration"), Integral):
        raise ValueError(f"a row needs its iteration, a whole number: {dict(row)}")
    numbers = {key: _number(key, value) for key, value in row.items()}
    line = json.dumps(numbers, allow_nan=False, ensure_ascii=False) + "\n"
    is_new = not file.exists()
    with naming(file), file.open("a+b") as lines:
        _cut_torn_line(lines)
        lines.write(line.encode())
        lines.flush()
        os.fsync(lines.fileno())
    if is_new:
        fsync_path(file.parent)


def read_rows(file: Path) -> list[dict[str, Number]]:
    """All rows in order, each iteration once; none if there is no file.

    Values that no float can hold (1e400) are None, as NaN is.

    Raises:
        ValueError: a line is not a JSON object of numbers with an iteration, or iterations do not
            rise, or a row comes twice with different numbers; the message says which line.
    """
    return [row for _, row in _read(file)]


def extend_row(file: Path, iteration: int, numbers: Mapping[str, Number]) -> None:
    """Add numbers to the end of a row that is there; a crash leaves the row as it was, or extended.

    Raises:
        ValueError: no row has this iteration, or as `read_rows`.
        TypeError: as `append_row`.
    """
    rows = _read(file)
    found = [index for index, (_, row) in enumerate(rows) if row["iteration"] == iteration]
    if not found:
        raise ValueError(f"{file} has no row of iteration {iteration}")
    row = {**rows[found[-1]][1], **{key: _number(key, value) for key, value in numbers.items()}}
    lines = [line for line, _ in rows]
    lines[found[-1]] = json.dumps(row, allow_nan=False, ensure_ascii=False).encode()
    write_atomically(file, b"".join(line + b"\n" for line in lines))


def drop_rows_after(file: Path, iteration: int) -> None:
    """Rewrite the file without rows of later iterations, and repaired.

    A last row that lacks only its newline is kept: a crash that left it so left no checkpoint of
    that iteration, so this one was damaged later.

    Raises:
        ValueError: as `read_rows`.
    """
    rows = _read(file, with_last=True)
    kept = b"".join(line + b"\n" for line, row in rows if row["iteration"] <= iteration)
    if file.exists() and kept != file.read_bytes():
        write_atomically(file, kept)


def _read(file: Path, with_last: bool = False) -> list[tuple[bytes, dict[str, Any]]]:
    """Rows with their lines, without line ends; `with_last`: what has no newline too, if whole."""
    if not file.exists():
        return []
    *lines, last = file.read_bytes().removeprefix(BOM_UTF8).split(b"\n")
    if with_last and isinstance(_parsed(last), dict):
        lines.append(last)
    found: list[tuple[bytes, dict[str, Any]]] = []
    for count, line in enumerate(map(bytes.strip, lines), start=1):
        if not line:
            continue
        try:
            row = _row(line)
            if found and row["iteration"] <= found[-1][1]["iteration"]:
                if any(row == earlier for _, earlier in found):
                    continue
                raise ValueError(f"iteration {row['iteration']} again, or out of order")
        except ValueError as problem:
            text = line[:60].decode(errors="replace")
            raise ValueError(
                f"{file}, line {count}: {problem}: {text!r}; correct or remove that line"
            ) from None
        found.append((line, row))
    return found


def _row(line: bytes) -> dict[str, Number]:
    """A parsed row; values that are not finite are None.

    Raises:
        ValueError: the line is not a JSON object of numbers with an iteration.
    """
    row = _parsed(line)
    iteration = row.get("iteration") if isinstance(row, dict) else None
    if not isinstance(row, dict) or type(iteration) is not int or not 0 <= iteration < 2**63:
        raise ValueError("not a JSON row with an iteration")
    for key, value in row.items():
        if not isinstance(value, int | float | None):
            raise ValueError(f"{key!r:.60} is not a number")
    return {key: value if _is_finite(value) else None for key, value in row.items()}


def _parsed(line: bytes) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


def _is_finite(value: Number) -> bool:
    try:
        return value is not None and math.isfinite(value)
    except OverflowError:  # a whole number beyond every float
        return False


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
