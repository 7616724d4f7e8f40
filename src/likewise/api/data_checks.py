"""Custom datasets, checked before training: ``likewise data check``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from likewise.builders.datasets import SOURCES, Report, check_source, guess_kind, open_source
from likewise.config.data import KINDS
from likewise.config.problems import nearest
from likewise.cores import usable_cores


@dataclass(frozen=True)
class Checked:
    """A dataset's kind, given or guessed, and what was found in it."""

    kind: str
    report: Report


def check_data(
    path: str | Path,
    kind: str | None = None,
    decode: bool = False,
    examples: int = 3,
) -> Checked:
    """Check every row of a dataset, on all cores.

    Args:
        path: What `data.path` of a recipe would be.
        kind: What its `data.kind` would be; default: by the files there.
        decode: Decode every image, instead of reading its header and its end.
        examples: How many bad rows to name for each kind of problem.

    Raises:
        ValueError, OSError: there is no dataset of that kind.
    """
    kind = kind or guess_kind(Path(path))
    if kind not in SOURCES:
        raise ValueError(f"no kind of data {kind!r} to check; {nearest(kind, SOURCES)}")
    source = open_source(KINDS[kind](path=str(path)))
    return Checked(kind, check_source(source, decode, len(usable_cores()), examples))
