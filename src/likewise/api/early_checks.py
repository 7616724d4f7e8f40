"""Refuses names of nothing before torch is imported, which takes longer than typing them again."""

from __future__ import annotations

import os
from pathlib import Path

from likewise import assets
from likewise.records.run_directory import RECIPE

SUFFIX = ".safetensors"
REAL = "real"  # the target that is a benchmark's own photos


def require_adapter(adapter: Path | None, best: bool = False) -> None:
    """See that a path can be a run's, a checkpoint's or an adapter's; None is the untrained model.

    Args:
        best: Whether a run's best checkpoint is wanted.

    Raises:
        ValueError: it cannot; the message says why.
    """
    if best and (adapter is None or not (adapter / RECIPE).is_file()):
        raise ValueError("the best checkpoint is that of a run: give its folder as the adapter")
    if adapter is None:
        return
    if adapter.is_file() and adapter.suffix != SUFFIX:
        raise ValueError(f"{adapter} does not end in {SUFFIX}: no other format of weights is read")
    if not adapter.is_file() and not adapter.is_dir():
        raise ValueError(f"there is no {adapter}: give a run, a checkpoint or an adapter")


def require_target(target: str) -> None:
    """See that a target is a folder, a shipped model, or named like one on the Hub.

    Raises:
        ValueError: it is none of these, nor `REAL`.
    """
    if target == REAL or os.path.isdir(target) or target in assets.names():
        return
    if target.count("/") != 1 or Path(target).parent.is_dir():
        raise ValueError(
            f"there is no {target}: give a run, a model, a folder of images, or {REAL!r}"
        )
