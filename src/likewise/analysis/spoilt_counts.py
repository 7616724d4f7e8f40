"""Images that nothing could score, counted in tables of scores and put in words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa

SPOILT = "spoilt"  # column of a scores table: why an image has no scores; null for all others


def count_spoilt(table: pa.Table) -> dict[str, int]:
    """Reason → number of images of a scores table that are missing for it; empty without any."""
    if SPOILT not in table.column_names:
        return {}
    return dict(sorted(Counter(why for why in table[SPOILT].to_pylist() if why).items()))


def in_words(spoilt: Mapping[str, int]) -> str:
    """What `count_spoilt` found, as "flat images: 3, not finite images: 1 (missing in all scores)".

    Empty where nothing is spoilt.
    """
    parts = [f"{why.replace('_', ' ')} images: {count}" for why, count in spoilt.items()]
    return f"{', '.join(parts)} (missing in all scores)" if parts else ""
