"""What lies in the folders that the app was given, by names of their own.

Everything is found by looking into those folders, and nothing by a path from a request. A link that
leads out of them is not followed.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from likewise.images import is_litter
from likewise.people.files import STUDY
from likewise.records.run_directory import RECIPE

DEPTH = 7  # folders below one that was named
SCORES = "scores.parquet"
LORA = "pytorch_lora_weights.safetensors"  # of a folder that diffusers can load
INSIDE = {"images", "checkpoints", "samples", "rewards", "report", "parts"}  # not searched


@dataclass(frozen=True)
class Found:
    """A run, a study, an evaluation or an adapter.

    Attributes:
        id: For addresses; the same as long as its path is.
        label: Its path as seen from the named folder.
        root: The folder that was named, resolved.
    """

    id: str
    label: str
    path: Path
    root: Path


class Catalogue:
    """Runs and studies in some folders, as they are now: every call looks again."""

    def __init__(self, folders: Sequence[Path]) -> None:
        self.roots = list(dict.fromkeys(folder.resolve() for folder in folders))

    def runs(self) -> list[Found]:
        return list(self._holding(RECIPE))

    def studies(self) -> list[Found]:
        return list(self._holding(STUDY))

    def evaluations(self) -> list[Found]:
        """Folders of a system's images with their scores: of runs, and by themselves."""
        return list(self._holding(SCORES))

    def adapters(self) -> list[Found]:
        """Folders of LoRAs; those inside of runs are the runs' own."""
        return list(self._holding(LORA))

    def _holding(self, name: str) -> Iterator[Found]:
        """Folders that hold a file of this name, in order of their paths."""
        seen: set[Path] = set()
        for root in self.roots:
            for folder in _folders(root):
                if folder not in seen and inside(folder / name, root):
                    seen.add(folder)
                    label = folder.relative_to(root.parent).as_posix()
                    digest = hashlib.sha256(str(folder).encode()).hexdigest()
                    yield Found(digest[:12], label, folder, root)


def inside(file: Path, root: Path) -> bool:
    """Whether a file is there, and in `root` whatever links lead to it."""
    try:
        real = file.resolve(strict=True)
    except (OSError, RuntimeError):  # missing, or links in a circle
        return False
    return real.is_file() and real.is_relative_to(root)


def leads_out(file: Path, root: Path) -> bool:
    """Whether there is something at `file`, and it is not in `root`."""
    return os.path.lexists(file) and not inside(file, root)


def _folders(root: Path) -> Iterator[Path]:
    """`root` and the folders below it; what a run or a study holds is not searched."""
    for parent, names, files in os.walk(root):  # does not follow links
        folder = Path(parent)
        yield folder
        depth = len(folder.relative_to(root).parts)
        stop = depth >= DEPTH or STUDY in files or SCORES in files
        names[:] = [] if stop else sorted(n for n in names if not is_litter(n) and n not in INSIDE)
