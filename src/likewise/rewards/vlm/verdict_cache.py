"""Verdicts on the disk, one file each. Any number of processes may share the folder."""

from __future__ import annotations

import logging
import threading
from pathlib import Path

from likewise.records.atomic import write_atomically
from likewise.rewards.vlm.verdict import Verdict, parse_verdict

logger = logging.getLogger(__name__)


class VerdictCache:
    """Files appear whole, and are checked as strictly as replies when they are read.

    Args:
        folder: Made if missing; ``~`` is the home directory.

    Raises:
        ValueError: the folder cannot be made.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder).expanduser()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ValueError(f"no folder can be at {self.folder}: {error.strerror}") from error
        self._unwarned = threading.Semaphore()

    def read(self, key: str) -> Verdict | None:
        """The verdict under a key of `Question.key`; None if there is none, or a damaged one."""
        try:
            return parse_verdict(self._file(key).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None

    def write(self, key: str, verdict: Verdict) -> None:
        """Keep a verdict. A full disk costs the file, and one warning, but no verdict."""
        file = self._file(key)
        try:
            file.parent.mkdir(exist_ok=True)
            write_atomically(file, verdict.model_dump_json(indent=1) + "\n")
        except OSError as error:
            if self._unwarned.acquire(blocking=False):  # once, though threads write at a time
                logger.warning("verdicts cannot be kept in %s: %s", self.folder, error.strerror)

    def _file(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key}.json"
