"""Subjects200K (Tan et al., arXiv:2411.15098): pairs of generated images of one object.

The published dataset (Hugging Face, Yuanshi/Subjects200K) is ``data/train-*.parquet`` with

    image               {bytes, path}: both images side by side, 1056×528 pixels
    description         {item, description_0, description_1, category, description_valid}
    quality_assessment  {compositeStructure, objectConsistency, imageQuality}, each 0 to 5
    collection          "collection_1", "collection_2"

Its card recommends pairs with all three ratings 5. Halves are cut as OminiControl's own training
does (src/train/data.py of github.com/Yuanshi9815/OminiControl): with padding p and side s,
from (p, p) and from (s + 2p, p); p = 8 there. description_0 is of the left one. `collection_3`, a
dataset of its own with sides of 1024, is cut with padding 0 by others who use it.

Each half makes a task: its description, conditioned by the other half; the half itself is held
out. Pairs about an item of the same name, however it is written, are held out together.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from likewise.config.data import Subjects200k
from likewise.data.sources.entries import DamageError, Entry, Problem, Stored, checked_prompt
from likewise.images import is_litter

RATINGS = ("compositeStructure", "objectConsistency", "imageQuality")
SIDES = ("left", "right")
TOO_LITTLE = 16  # pixels; less is not half an image


@dataclass(frozen=True)
class Half(Stored):
    """One of two square images side by side, each with `padding` pixels around it."""

    side: int = 0
    padding: int = 0

    def box(self, size: tuple[int, int]) -> tuple[int, int, int, int]:
        length = size[1] - 2 * self.padding
        if length < TOO_LITTLE or size[0] < 2 * (length + self.padding):
            shape = f"{size[0]}×{size[1]} with a padding of {self.padding}"
            raise DamageError("not a pair", f"{self.name}: {shape} has no two squares side by side")
        left = self.padding + self.side * (length + self.padding)
        return left, self.padding, left + length, self.padding + length


class Subjects200kSource:
    """Implements :class:`likewise.data.sources.entries.Source`; two rows per pair, file by file.

    Raises:
        ValueError, OSError: there are no such files, or one is not Parquet of this layout.
    """

    def __init__(self, settings: Subjects200k) -> None:
        self.settings = settings
        self.files = find_files(Path(settings.path))
        scanned = [_kept(file, index, settings.quality) for index, file in enumerate(self.files)]
        self.pairs = np.concatenate([kept for kept, _ in scanned])  # [N, 3]: file, group, row in it
        out = sum(count for _, count in scanned) - len(self.pairs)
        text = f"{out} pairs are left out: rated below {settings.quality}, or not described"
        self.notes: Sequence[str] = (text,) if out else ()
        if not len(self.pairs):
            raise ValueError(f"{settings.path} has no pairs of quality {settings.quality}; {text}")

    def __len__(self) -> int:
        return 2 * len(self.pairs)

    def entries(self, start: int, stop: int, content: bool) -> Iterator[Entry | Problem]:
        loaded: tuple[int, int] | None = None
        rows: pa.Table | DamageError = DamageError("", "")
        for row in range(start, stop):
            index, group, inner = self.pairs[row // 2].tolist()
            if loaded != (index, group):
                rows, loaded = _read(self.files[index], group, content), (index, group)
            where = f"{self.files[index].name}, group {group}, row {inner}, {SIDES[row % 2]}"
            try:
                if isinstance(rows, DamageError):
                    raise rows
                found = rows.slice(inner, 1).to_pylist()[0]
                yield self._entry(row, where, found, content)
            except DamageError as damage:
                yield Problem(row, where, damage.what, damage.detail)

    def _entry(self, row: int, where: str, found: dict[str, Any], content: bool) -> Entry:
        pair, side = divmod(row, 2)
        index, group, inner = self.pairs[pair].tolist()
        subject = f"{self.files[index].stem}-{group}-{inner}"
        description = found["description"] or {}
        item = (description.get("item") or "").strip()
        image = (found["image"] or {}).get("bytes") if content else None
        halves = [
            Half(f"{name} half", content=image, side=number, padding=self.settings.padding)
            for number, name in enumerate(SIDES)
        ]
        return Entry(
            row=row,
            where=where,
            id=f"{subject}-{side}",
            prompt=checked_prompt(description.get(f"description_{side}")),
            class_name=item,
            subject=subject,
            category=description.get("category") or "other",
            kind="scene",
            complexity=1,
            references=(halves[1 - side],),
            others=(halves[side],),
            family=" ".join(item.casefold().split()),
        )


def find_files(path: Path) -> list[Path]:
    """The Parquet files at `path`: itself, those in it, or those in its ``data``.

    Raises:
        ValueError: there is no Parquet file.
    """
    folders = [path, path / "data"]
    found = [path] if path.is_file() else next(filter(None, map(_parquets, folders)), [])
    if not found:
        raise ValueError(f"{path} has no Parquet files: give Subjects200K's folder")
    return found


def _parquets(folder: Path) -> list[Path]:
    return sorted(file for file in folder.glob("*.parquet") if not is_litter(file.name))


def _kept(file: Path, index: int, quality: int) -> tuple[np.ndarray, int]:
    """File, row group and row of each pair of a file that is good enough; and how many it has."""
    try:
        parquet = pq.ParquetFile(file)
        missing = {"image", "description"} - set(parquet.schema_arrow.names)
        if missing:
            raise ValueError(f"it has no column {' or '.join(sorted(missing))}")
        wanted = ["description.description_valid"]
        wanted += [f"quality_assessment.{name}" for name in RATINGS] if quality else []
        table = parquet.read(wanted)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise ValueError(f"{file} is not Parquet of Subjects200K's layout: {error}") from error
    sizes = [parquet.metadata.row_group(g).num_rows for g in range(parquet.num_row_groups)]
    groups = np.repeat(np.arange(len(sizes)), sizes)
    inner = np.concatenate([np.arange(size) for size in sizes] or [np.zeros(0, np.int64)])
    kept = _good(table, quality) if len(table) else np.zeros(0, bool)
    pairs = np.stack([np.full(len(groups), index), groups, inner], 1).astype(np.int64)
    return pairs[kept], len(pairs)


def _good(table: pa.Table, quality: int) -> np.ndarray:
    """bool [N]: described, and no rating below `quality`; a rating that is missing is below."""
    good = np.ones(len(table), bool)
    if "description" in table.column_names:
        described = pc.struct_field(table["description"], "description_valid")
        good &= ~pc.equal(described, False).fill_null(False).to_numpy()
    for name in RATINGS if quality else ():
        if "quality_assessment" not in table.column_names:
            return np.zeros(len(table), bool)
        rating = pc.struct_field(table["quality_assessment"], name)
        good &= pc.greater_equal(rating, quality).fill_null(False).to_numpy()
    return good


def _read(file: Path, group: int, content: bool) -> pa.Table | DamageError:
    """The rows of a row group, with the images' bytes if `content`; or why they cannot be had."""
    columns = ["description", "image"] if content else ["description"]
    try:
        return pq.ParquetFile(file).read_row_group(group, columns)
    except (pa.ArrowException, OSError) as error:
        return DamageError("unreadable", f"{file.name}, row group {group}: {error}")
