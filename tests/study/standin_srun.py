"""An `srun` for one machine of one slot: ``python standin_srun.py --OPTION… PROGRAM WORD…``.

As Slurm's own (22.05, looked at on two nodes): what finds no slot waits, and ends at SIGTERM; at
SIGTERM what runs is killed at once. With SRUN_LIMIT, a file that is not there yet, the program that
runs as the file of SRUN_WHEN appears meets its time limit: SIGTERM, and a line that says why.
"""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import time
from pathlib import Path


def main(words: list[str]) -> int:
    program = next(n for n, word in enumerate(words) if not word.startswith("-"))
    with Path(os.environ["SRUN_SLOT"]).open("a") as slot:
        signal.signal(signal.SIGTERM, lambda *_: os._exit(1))
        fcntl.flock(slot, fcntl.LOCK_EX)
        slot.write(f"{' '.join(words[:program])}\n")
        slot.flush()
        process = subprocess.Popen(words[program:])
        signal.signal(signal.SIGTERM, lambda *_: process.kill())
        limit, when = (os.environ.get(name) for name in ("SRUN_LIMIT", "SRUN_WHEN"))
        while process.poll() is None:
            if limit and when and Path(when).exists() and not Path(limit).exists():
                Path(limit).touch()
                now = "2026-11-28T00:21:36"
                print(f"slurmstepd: error: *** STEP 7.0 ON n1 CANCELLED AT {now} DUE TO TIME LIMIT")
                sys.stdout.flush()
                process.terminate()
            time.sleep(0.05)
        return process.returncode if process.returncode >= 0 else 128 - process.returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
