"""Which subjects of a benchmark a run was trained on, by what its photos show.

Training records fingerprints of every photo of its tasks (`rewards/*.parquet`, column ``photos``),
after they were brought to what the policy takes. So the benchmark's photos are brought there too
before they are compared; names and paths play no part.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import pyarrow as pa
import pyarrow.compute as pc
from PIL import Image

from likewise.fingerprints import FingerprintIndex, fingerprint
from likewise.types import Task

PHOTOS = "photos"
NAMED = 5  # subjects that a label lists
UNRECORDED = "the photos that it was trained on were not recorded"

Fit = Callable[[Image.Image], Image.Image]


def trained_photos(rewards: pa.Table) -> FingerprintIndex | None:
    """All photos in a run's reward tables, joined; None where they were not recorded."""
    if PHOTOS not in rewards.column_names:
        return None
    marks = pc.list_flatten(rewards[PHOTOS])
    return FingerprintIndex(pc.unique(marks).to_pylist())


def seen_subjects(
    trained: FingerprintIndex, tasks: Iterable[Task], fits: Sequence[Fit]
) -> list[str]:
    """Subjects of the benchmark of which any photo, fitted in any of these ways, was trained on.

    In the benchmark's order.
    """
    photos: dict[str, dict[int, Image.Image]] = {}
    for task in tasks:
        photos.setdefault(task.subject, {}).update((id(one), one) for one in task.photos)
    return [
        subject
        for subject, own in photos.items()
        if any(trained.matches(fingerprint(fit(photo))) for photo in own.values() for fit in fits)
    ]


def label(seen: Sequence[str], tasks: Iterable[Task]) -> str:
    """ "trained on 2 of the benchmark's 30 subjects (cat, dog)"; empty where there are none."""
    if not seen:
        return ""
    count = len({task.subject for task in tasks})
    more = ", …" if len(seen) > NAMED else ""
    names = ", ".join(seen[:NAMED])
    return f"trained on {len(seen)} of the benchmark's {count} subjects ({names}{more})"
