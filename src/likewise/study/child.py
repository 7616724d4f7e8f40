"""Becomes a unit's process: ``python -m likewise.study.child PARENT CORE PROGRAM WORD...``.

Set here, before the program starts, rather than between fork and exec, where Python is not safe:
the CPU core that it stays on ("-": any), and that it dies with its parent, however that one ends.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1  # linux/prctl.h; kept over exec


def become(parent: int, core: str, command: list[str]) -> None:
    """Never returns."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it ended before that was settled
        sys.exit(1)
    if core != "-" and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {int(core)})
    os.execv(command[0], command)


if __name__ == "__main__":
    become(int(sys.argv[1]), sys.argv[2], sys.argv[3:])
