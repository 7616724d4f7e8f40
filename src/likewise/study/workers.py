"""Workers that run units side by side: one per GPU, or one per CPU core."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from likewise.cores import usable_cores


@dataclass(frozen=True)
class Worker:
    """Runs one unit at a time, on a GPU or on a CPU core.

    Attributes:
        name: In messages.
        core: The CPU core that its processes stay on, where the system can keep them there.
        environment: What its processes find beside what this one has.
    """

    name: str
    core: int | None = None
    environment: Mapping[str, str] = field(default_factory=dict)


def find_workers(count: int | Literal["auto"], device: str) -> list[Worker]:
    """So many workers, dealt to GPUs in turn if there are any, else to CPU cores.

    A worker on a core sees no GPU and has one thread: more gain little for small models, and so
    numbers do not depend on how many workers there are.

    Args:
        count: ``auto`` is one per GPU or core.
        device: `run.device` of the study's recipes; ``cpu`` leaves GPUs alone.
    """
    cores = usable_cores()
    gpus = [] if device == "cpu" else visible_gpus()
    if not gpus:
        total = len(cores) if count == "auto" else count
        chosen = [cores[index % len(cores)] for index in range(total)]
        alone = {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
        return [Worker(f"core {core}", core, alone) for core in chosen]
    total = len(gpus) if count == "auto" else count
    threads = str(max(1, len(cores) // total))
    return [
        Worker(f"GPU {gpu}", None, {"CUDA_VISIBLE_DEVICES": gpu, "OMP_NUM_THREADS": threads})
        for gpu in (gpus[index % len(gpus)] for index in range(total))
    ]


def visible_gpus() -> list[str]:
    """What CUDA_VISIBLE_DEVICES names, else all that the driver lists; found without torch."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [gpu.strip() for gpu in named.split(",") if gpu.strip() not in ("", "-1")]
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    try:
        done = subprocess.run([program, "-L"], capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.SubprocessError):
        return []
    lines = [line for line in done.stdout.splitlines() if line.startswith("GPU ")]
    return [str(index) for index in range(len(lines))]
