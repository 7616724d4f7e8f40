"""Scoring, apart from generation: images of any system → ``scores.parquet``.

Every batch leaves a part file once it is scored; at the end the parts are joined. What compares the
images of one task with each other, diversity, needs all parts, so it comes last.

Images that are flat or not finite are shown to no scorer: their rows hold the reason in the column
``spoilt`` and nulls in all others.
"""

from __future__ import annotations

import warnings
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image

from likewise.analysis.spoilt_counts import SPOILT
from likewise.evaluation.batches import BatchProgress, Share, cut, silent
from likewise.evaluation.benchmark_protocols import PHOTOS
from likewise.evaluation.items import Item
from likewise.evaluation.measures import TRUNCATED, Measures, diversity
from likewise.printable import printable
from likewise.protocols import Reward
from likewise.records.atomic import remove, write_atomically
from likewise.rollout.scoring import score_images
from likewise.rollout.spoilt import why_spoilt

SCORES = "scores.parquet"
PARTS = "parts"
EMBEDDING = "/embedding"  # in part files only
DIVERSITY = "/diversity"
LISTS = (f"/{PHOTOS}", EMBEDDING)  # ends of the columns that hold a list per image


@dataclass(frozen=True)
class Scorers:
    """What scores every image.

    Attributes:
        rewards: By the name of their column (``reward/prompt``, ``evaluator/identity``).
        measures: All metrics.
        optional: Names of rewards that may fail: the others' numbers are worth having without.
    """

    rewards: Mapping[str, Reward]
    measures: Measures
    optional: Collection[str] = ()


def unscored(folder: Path, items: Sequence[Item], size: int) -> bool:
    """Whether any batch of the system in `folder` is still to be scored."""
    if (folder / SCORES).exists():
        return False
    return not all(_part(folder, number).exists() for number, _ in cut(items, size))


def score_missing(
    scorers: Scorers,
    folder: Path,
    items: Sequence[Item],
    size: int,
    share: Share,
    progress: BatchProgress = silent,
) -> None:
    """Score each of this share's batches that has no part file in `folder` yet.

    Raises:
        ValueError: a scorer fails as a whole (the message names it), or an image is unreadable.
    """
    several = len({item.task.id for item in items}) < len(items)
    (folder / PARTS).mkdir(parents=True, exist_ok=True)
    batches = share.batches(items, size)
    for done, (number, batch) in enumerate(batches, 1):
        if not _part(folder, number).exists():
            _write(_part(folder, number), _score(scorers, batch, several))
        progress(done, len(batches))


def join_parts(folder: Path, items: Sequence[Item], size: int) -> pa.Table:
    """The scores of all images, a row each in the order of `items`; parts become one file.

    Raises:
        ValueError: the parts are of other images, or of other batches.
    """
    file = folder / SCORES
    if not file.exists():
        parts = [pq.read_table(_part(folder, number)) for number, _ in cut(items, size)]
        table = pa.concat_tables(parts)
        if table["file"].to_pylist() != [item.file for item in items]:
            raise ValueError(f"{folder / PARTS} holds scores of other images: remove it")
        _write(file, _with_diversity(table))
    if (folder / PARTS).exists():
        remove(folder / PARTS)
    return pq.read_table(file)


def _score(scorers: Scorers, batch: Sequence[Item], several: bool) -> pa.Table:
    images = [item.image() for item in batch]
    reasons = [why_spoilt(image) for image in images]
    usable = [index for index, why in enumerate(reasons) if not why]
    found = _scores(
        scorers, [batch[index] for index in usable], [images[index] for index in usable], several
    )
    row_of = {index: row for row, index in enumerate(usable)}
    rows = pa.array([row_of.get(index) for index in range(len(batch))], pa.int64())
    spoilt = {SPOILT: pa.array([why or None for why in reasons], pa.string())}
    measured = {name: found[name].take(rows) for name in found.column_names}  # null without a row
    return pa.table({**_labels(batch), **spoilt, **measured})


def _scores(
    scorers: Scorers, batch: Sequence[Item], images: Sequence[Image.Image], several: bool
) -> pa.Table:
    """All columns but labels; the same columns for an empty batch."""
    columns = _rewards(scorers, batch, images)
    found = scorers.measures.embed(images)
    real = any(item.photo is not None for item in batch)
    measured = scorers.measures.columns(images, [item.task for item in batch], real, found)
    if several:
        measured |= {name + EMBEDDING: one.tolist() for name, one in found.items()}
    else:
        nothing: list[float | None] = [None] * len(batch)
        measured |= {name + DIVERSITY: nothing for name in scorers.measures.likeness}
    order = list(found)

    def rank(name: str) -> int:
        metric = name.rpartition("/")[0]
        return order.index(metric) if metric in order else len(order)

    for name in sorted(measured, key=rank):
        columns[name] = pa.array(measured[name], _type(name))
    return pa.table(columns)


def _type(column: str) -> pa.DataType:
    if column.endswith(TRUNCATED):
        return pa.bool_()
    return pa.list_(pa.float64()) if column.endswith(LISTS) else pa.float64()


def _labels(batch: Sequence[Item]) -> dict[str, pa.Array]:
    """What is known of images before they are scored."""

    def texts(values: Iterable[str]) -> pa.Array:
        return pa.array(values, pa.string())

    tasks = [item.task for item in batch]
    return {
        "file": texts(item.file for item in batch),
        "task": texts(task.id for task in tasks),
        "number": pa.array([item.number for item in batch], pa.int64()),
        "subject": texts(task.subject for task in tasks),
        "category": texts(task.category for task in tasks),
        "class_name": texts(task.class_name for task in tasks),
        "kind": texts(task.kind for task in tasks),
        "complexity": pa.array([task.complexity for task in tasks], pa.int64()),
        "prompt": texts(task.prompt for task in tasks),
    }


def _rewards(
    scorers: Scorers, batch: Sequence[Item], images: Sequence[Image.Image]
) -> dict[str, pa.Array]:
    """Values float32, null where a reward has nothing to say.

    Raises:
        ValueError: one that is not optional failed for all images of the batch.
    """
    rewards = scorers.rewards
    if not batch:
        return {name: pa.array([], pa.float32()) for name in rewards}
    scores = score_images(rewards, images, [item.task for item in batch])
    found: dict[str, pa.Array] = {}
    for name, values, valid in zip(rewards, scores.values, scores.valid, strict=True):
        if name in scores.failures and not valid.any():
            if name not in scorers.optional:
                raise ValueError(f"{name} failed: {scores.failures[name]}")
            warnings.warn(printable(f"{name} failed: {scores.failures[name]}"), stacklevel=2)
        found[name] = pa.array(values.numpy(), pa.float32(), mask=~valid.numpy())
    return found


def _with_diversity(table: pa.Table) -> pa.Table:
    """The table with ``M/diversity`` in place of ``M/embedding``."""
    rows: dict[str, list[int]] = {}
    for row, task in enumerate(table["task"].to_pylist()):
        rows.setdefault(task, []).append(row)
    for name in [name for name in table.column_names if name.endswith(EMBEDDING)]:
        embeddings = table[name].to_pylist()
        values: list[float | None] = [None] * table.num_rows
        for own in rows.values():
            known = [row for row in own if embeddings[row] is not None]
            found = torch.tensor([embeddings[row] for row in known], dtype=torch.float32)
            for row, value in zip(known, diversity(found), strict=True):
                values[row] = value
        column = pa.array(values, pa.float64())
        index = table.column_names.index(name)
        table = table.set_column(index, name.removesuffix(EMBEDDING) + DIVERSITY, column)
    return table


def truncated_prompts(table: pa.Table) -> dict[str, int]:
    """Prompt metric → how many distinct prompts of a scores table it could not read whole."""
    found = {}
    for column in (name for name in table.column_names if name.endswith(TRUNCATED)):
        pairs = zip(table[column].to_pylist(), table["prompt"].to_pylist(), strict=True)
        if cut := {prompt for is_cut, prompt in pairs if is_cut}:
            found[column.removesuffix(TRUNCATED)] = len(cut)
    return found


def _part(folder: Path, number: int) -> Path:
    return folder / PARTS / f"{number:06d}.parquet"


def _write(file: Path, table: pa.Table) -> None:
    sink = pa.BufferOutputStream()
    pq.write_table(table.combine_chunks(), sink, compression="zstd")
    write_atomically(file, sink.getvalue().to_pybytes())
