"""Evaluation protocols: what images are scored against, how many there are, and how to average.

Numbers that were published for DreamBench come from protocols that must never share a table. A
scores table has a row per image and, for each identity metric M, the columns ``M/conditioning``
(cosine to the photo that conditioned the generator) and ``M/photos`` (cosines to all photos of the
subject); a protocol says which one counts as M.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

import numpy as np
from pyarrow.types import is_floating

from likewise.analysis.intervals import Estimate, cluster_bootstrap
from likewise.config.problems import nearest

if TYPE_CHECKING:
    import pyarrow as pa

# The columns of an identity metric that may count.
PHOTOS: Final = "photos"
CONDITIONING: Final = "conditioning"


@dataclass(frozen=True)
class Protocol:
    """How systems are compared.

    Attributes:
        name: As users write it.
        references: What an identity metric compares an image with: all photos of its subject,
            pairwise, or the conditioning photo only.
        images_per_prompt: Images per task.
        averaging: Over all pairs of image and photo, so that a subject with more photos counts
            more; or over the pairs of each subject and then over subjects; or over images. What
            has one value per image is averaged over images instead of pairs.
        seed: Of the initial noise.
    """

    name: str
    references: Literal["photos", "conditioning"]
    images_per_prompt: int
    averaging: Literal["pairs", "subjects", "images"]
    seed: int = 0


PROTOCOLS: Mapping[str, Protocol] = {
    protocol.name: protocol
    for protocol in (
        Protocol("dreambooth", PHOTOS, 4, "pairs"),
        Protocol("uno", PHOTOS, 6, "subjects"),
        Protocol("single-ref", CONDITIONING, 1, "images", seed=3407),
    )
}


def find_protocol(name: str) -> Protocol:
    """The protocol of that name.

    Raises:
        ValueError: the name is unknown (the message names the nearest).
    """
    if name not in PROTOCOLS:
        raise ValueError(f"unknown protocol {name!r}; {nearest(name, PROTOCOLS)}")
    return PROTOCOLS[name]


@dataclass(frozen=True)
class Observations:
    """What is averaged: n known values of one metric.

    Attributes:
        values: float64 [n].
        subjects: [n], the subject of each.
        keys: [n], (task, number, photo) of each; photo is 0 where an image has one value.
    """

    values: np.ndarray
    subjects: list[str]
    keys: list[tuple[str, int, int]]

    def minus(self, other: Observations) -> Observations:
        """Differences to `other`, of what both know; paired by key, in the order of this one."""
        known = dict(zip(other.keys, other.values, strict=True))
        both = [index for index, key in enumerate(self.keys) if key in known]
        keys = [self.keys[index] for index in both]
        theirs = np.array([known[key] for key in keys], dtype=np.float64)
        subjects = [self.subjects[index] for index in both]
        return Observations(self.values[both] - theirs, subjects, keys)


def protocol_mean(table: pa.Table, protocol: Protocol, metric: str) -> Estimate:
    """The protocol's average of a metric, with a 95 % interval from a bootstrap over subjects.

    Args:
        table: Scores, a row per image.
        metric: An identity metric (``dino``: the protocol chooses its column), or any column with
            one number per image (``clip-t``, ``dino/held-out``, ``evaluator/prompt``).

    Returns:
        An Estimate whose n counts what was averaged: pairs, images or subjects. Its mean is
        None where nothing is known.

    Raises:
        ValueError: the table has no such metric (the message names the nearest).
    """
    return average(metric_values(table, protocol, metric), protocol)


def metric_values(table: pa.Table, protocol: Protocol, metric: str) -> Observations:
    """What the protocol averages of a metric: its values that are not null; as `protocol_mean`."""
    name = _column(table, protocol, metric)
    labels = [table.column(key).to_pylist() for key in ("task", "number", "subject")]
    values, subjects, keys = [], [], []
    for entry, task, number, subject in zip(table.column(name).to_pylist(), *labels, strict=True):
        for photo, value in enumerate(entry if isinstance(entry, list) else [entry]):
            if value is not None and np.isfinite(value):
                values.append(value)
                subjects.append(subject)
                keys.append((task, number, photo))
    return Observations(np.array(values, dtype=np.float64), subjects, keys)


def average(observed: Observations, protocol: Protocol) -> Estimate:
    """Mean and interval of a metric's values, or of differences, as the protocol averages."""
    numbers, subjects = observed.values, observed.subjects
    if protocol.averaging == "subjects":
        names, index = np.unique(np.array(subjects, dtype=str), return_inverse=True)
        numbers = np.bincount(index, weights=numbers) / np.bincount(index)
        subjects = names.tolist()
    return cluster_bootstrap(numbers, subjects)


def metrics_of(table: pa.Table, protocol: Protocol) -> list[str]:
    """All that a table can be asked for under a protocol, in the order of its columns.

    An identity metric stands under its own name before its further columns; the column that it
    stands for does not appear again.
    """
    found = []
    for column in table.schema:
        metric, _, reference = column.name.rpartition("/")
        if reference == CONDITIONING:
            found.append(metric)
        if is_floating(column.type) and column.name != f"{metric}/{protocol.references}":
            found.append(column.name)
    return found


def _column(table: pa.Table, protocol: Protocol, metric: str) -> str:
    chosen = f"{metric}/{protocol.references}"
    if chosen in table.column_names:
        return chosen
    if metric in table.column_names and is_floating(table.schema.field(metric).type):
        return metric
    raise ValueError(
        f"no metric {metric!r} in these scores; {nearest(metric, metrics_of(table, protocol))}"
    )
