"""A unit on another machine: ``python -m likewise.study.remote_units NOTES PROGRAM WORD...``.

Each cluster has its own way to signal a process, and some kill at once. Two files in the study's
folder, which all machines share, work on all of them.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from uuid import uuid4

from likewise.study.process import start_child

POLL = 0.2  # seconds between looks at process and folder
PARENT = os.getppid()


class Notes:
    """What a launch elsewhere and the study leave for each other, as empty files.

    Args:
        path: Start of their names; no other launch's is the same.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.started = path.with_name(f"{path.name}-started")
        self.stop = path.with_name(f"{path.name}-stop")

    @classmethod
    def new(cls, folder: Path) -> Notes:
        return cls(folder / f".launch-{uuid4().hex}")

    def remove(self) -> None:
        for file in (self.started, self.stop):
            file.unlink(missing_ok=True)


class OrphanedError(RuntimeError):
    """This process has lost its parent, which stands for the machine on a cluster."""


def attend(
    command: Sequence[str], log: Path | None, environment: Mapping[str, str], notes: Notes
) -> int:
    """Run a command until it ends, or until it has followed a wish to stop; its exit code.

    Call it from the main thread: the process dies with the thread that started it.

    Raises:
        OrphanedError: so another machine is about to do the unit; the process here has ended.
    """
    notes.started.touch()
    process = start_child(command, log, environment)
    told = False
    try:
        while (code := process.poll()) is None:
            if os.getppid() != PARENT:
                raise OrphanedError
            if notes.stop.exists() and not told:
                process.terminate()
                told = True
            time.sleep(POLL)
        return code
    finally:
        process.kill()
        process.wait()


def main(notes: Notes, command: Sequence[str]) -> int:
    """As `attend`, with output where this process's goes; SIGTERM is a wish to stop as well."""
    signal.signal(signal.SIGTERM, lambda *_: notes.stop.touch())
    code = attend(command, None, {}, notes)
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main(Notes(Path(sys.argv[1])), sys.argv[2:]))
