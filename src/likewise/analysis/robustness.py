"""Where a metric holds: by category of the subject, and by kind and complexity of the prompt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from likewise.analysis.intervals import Estimate, cluster_bootstrap


@dataclass(frozen=True)
class Cell:
    """Images that share some labels.

    Attributes:
        labels: Column → value, such as ``{"category": "animal", "complexity": 2}``.
        n: Number of images.
        estimates: Metric → mean, with an interval over subjects; its own `n` counts known values.
    """

    labels: dict[str, Any]
    n: int
    estimates: dict[str, Estimate]


def cells(
    table: pa.Table, metrics: Sequence[str], by: Sequence[str] = ("category", "complexity")
) -> list[Cell]:
    """One cell for each combination of labels that occurs, in ascending order; null labels last.

    Args:
        table: One row per image (`scores.parquet`), with `subject`, the metrics (null where
            missing) and the columns of `by`: ``("kind",)`` for kinds of prompts.

    Raises:
        KeyError: a column is missing.
    """
    subjects = np.array(table["subject"].to_pylist())
    values = {metric: table[metric].to_numpy() for metric in metrics}
    rows: dict[tuple[Any, ...], list[int]] = {}
    for row, labels in enumerate(zip(*(table[name].to_pylist() for name in by), strict=True)):
        rows.setdefault(labels, []).append(row)
    return [
        Cell(
            labels=dict(zip(by, labels, strict=True)),
            n=len(kept),
            estimates={
                metric: cluster_bootstrap(column[kept], subjects[kept])
                for metric, column in values.items()
            },
        )
        for labels, kept in sorted(rows.items(), key=_nulls_last)
    ]


def _nulls_last(item: tuple[tuple[Any, ...], list[int]]) -> list[tuple[bool, Any]]:
    return [(label is None, 0 if label is None else label) for label in item[0]]
