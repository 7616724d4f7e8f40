"""The seal of a checkpoint: a manifest with the size and checksum of every file in its folder."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from likewise.records.atomic import sha256

MANIFEST = "manifest.json"


class DamageError(ValueError):
    """A checkpoint is not what was saved; the message names the file."""


@dataclass(frozen=True)
class Checkpoint:
    """A state after `iteration` iterations; `score` is what it is ranked by, higher is better."""

    iteration: int
    folder: Path
    score: float | None


def seal(folder: Path, iteration: int, score: float | None) -> None:
    """Write the manifest of everything in `folder`. A score that is not finite counts as none.

    Raises:
        ValueError: a file of that name is there already.
    """
    if (folder / MANIFEST).exists():
        raise ValueError(f"{MANIFEST} is the store's own file: a checkpoint must not write it")
    files = {
        file.relative_to(folder).as_posix(): {"sha256": sha256(file), "bytes": file.stat().st_size}
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }
    if score is not None:
        score = float(score) if math.isfinite(score) else None
    manifest = {"iteration": iteration, "score": score, "files": files}
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")


def read_checkpoint(folder: Path, iteration: int) -> Checkpoint:
    """What the manifest says; files are not checked.

    Raises:
        DamageError: the manifest is missing, unreadable, or that of another iteration.
    """
    return Checkpoint(iteration, folder, _read_manifest(folder, iteration)["score"])


def verify(folder: Path, iteration: int) -> None:
    """Compare every file with the manifest. Files that it does not list are ignored.

    Raises:
        DamageError: the manifest or a file is missing, unreadable, or another than was saved.
    """
    for name, expected in _read_manifest(folder, iteration)["files"].items():
        file = folder / name
        try:
            size = file.stat().st_size
            if size != expected["bytes"]:
                raise DamageError(f"{name} has {size} bytes instead of {expected['bytes']}")
            if sha256(file) != expected["sha256"]:
                raise DamageError(f"{name} has changed: its checksum is another")
        except FileNotFoundError:
            raise DamageError(f"{name} is missing") from None
        except OSError as error:
            raise DamageError(f"{name} is unreadable ({error.strerror})") from error


def _read_manifest(folder: Path, iteration: int) -> dict[str, Any]:
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DamageError(f"{MANIFEST} is missing") from None
    except OSError as error:
        raise DamageError(f"{MANIFEST} is unreadable ({error.strerror})") from error
    except ValueError as error:
        raise DamageError(f"{MANIFEST} is unreadable ({error})") from error
    if not _is_manifest(manifest):
        raise DamageError(f"{MANIFEST} is unreadable (not a manifest)")
    if manifest["iteration"] != iteration:
        raise DamageError(f"{MANIFEST} is that of iteration {manifest['iteration']}")
    return manifest


def _is_manifest(found: Any) -> bool:
    return (
        isinstance(found, dict)
        and isinstance(found.get("iteration"), int)
        and isinstance(found.get("score", ""), int | float | None)
        and isinstance(found.get("files"), dict)
        and all(
            isinstance(entry, dict) and {"sha256", "bytes"} <= entry.keys()
            for entry in found["files"].values()
        )
    )
