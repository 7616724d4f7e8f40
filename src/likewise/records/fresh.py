"""Folders in which a run can be started: those that hold nothing learned, and nothing of others."""

from __future__ import annotations

from pathlib import Path

from likewise.records.atomic import TEMPORARY, remove
from likewise.records.lines import read_rows

LOCK = ".lock"
FOLDERS = ("checkpoints", "rewards", "samples")
TRACKERS = "trackers"
FILES = ("recipe.yaml", "environment.json", "metrics.jsonl", "timings.jsonl", "log.txt", LOCK)
BASE_SAMPLE = "000000"  # of the evaluation before training


def holds_nothing_learned(path: Path) -> bool:
    """Whether the folder `path` is empty, or a run that ended before its first iteration did.

    False as well where it holds anything that no run writes, or where its metrics are unreadable.
    """
    if not path.is_dir():
        return False
    known = (*FILES, *FOLDERS, TRACKERS)
    names = [entry.name for entry in path.iterdir()]
    if not all(name in known or name.startswith(TEMPORARY) for name in names):
        return False
    try:
        rows = read_rows(path / "metrics.jsonl")
    except (ValueError, OSError):
        return False
    return all(row["iteration"] == 0 for row in rows) and all(
        entry.name.startswith((TEMPORARY, BASE_SAMPLE) if folder == "samples" else TEMPORARY)
        for folder in FOLDERS
        for entry in ((path / folder).iterdir() if (path / folder).is_dir() else ())
    )


def clear(path: Path) -> None:
    """Empty such a folder, recipe first: without one it is not a run. The lock's file stays."""
    entries = sorted(path.iterdir(), key=lambda entry: entry.name != "recipe.yaml")
    for entry in entries:
        if entry.name != LOCK:
            remove(entry)
