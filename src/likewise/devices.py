"""What this machine computes on: device, dtype, and how many processes and threads."""

from __future__ import annotations

import os

import torch

from likewise.cores import usable_cores

MAX_CPU_PROCESSES = 4  # unless a recipe says otherwise


def auto_device() -> str:
    """cuda where there is one, else cpu."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def find_device(name: str | None) -> torch.device:
    """The device of that name; None: cuda where there is one, else cpu.

    Raises:
        ValueError: there is no such device, or not on this machine.
    """
    if name is None:
        return torch.device(auto_device())
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(
            f"no device {name!r} here; this machine has {auto_device()}: {reason}"
        ) from error
    if device.type == "meta":
        raise ValueError("the device meta holds no numbers: use cpu, or cuda where there is one")
    return device


def device_beside(own: torch.device, name: str) -> torch.device:
    """Another device than a process's own: ``cpu``, ``cuda:7``, or ``cuda:+4``, counted from its.

    Raises:
        ValueError: this machine has no such GPU, or there is none to count from.
    """
    if name.startswith("cuda:+"):
        if own.type != "cuda":
            raise ValueError(f"{name} counts from the GPU of a process, which is on the {own.type}")
        name = f"cuda:{(own.index or 0) + int(name.removeprefix('cuda:+'))}"
    device, count = torch.device(name), torch.cuda.device_count()
    if device.type == "cuda" and device.index >= count:
        raise ValueError(f"there is no {name}: this machine has {count} GPUs, counted from 0")
    return device


def dtype_of(name: str, device: str) -> torch.dtype:
    """The dtype of that name; for ``auto`` bfloat16 where the device has instructions for it.

    Elsewhere float32: a CPU without them works out bfloat16 several times more slowly.
    """
    if name != "auto":
        return getattr(torch, name)
    if device.startswith("cuda"):
        fast = torch.cuda.is_bf16_supported(including_emulation=False)
    else:  # no public functions say so
        asked = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")
        fast = any(getattr(torch.cpu, one, bool)() for one in asked)
    return torch.bfloat16 if fast else torch.float32


def auto_processes(device: str) -> int:
    """One process per GPU, or per CPU core up to 4.

    Small models keep one core busy per process, and threads inside an operation hardly help them:
    on two cores, two processes draw twice as many images as one with two threads.
    """
    if device.startswith("cuda"):
        return 1 if ":" in device else torch.cuda.device_count()
    return min(MAX_CPU_PROCESSES, len(usable_cores())) if device == "cpu" else 1


def auto_threads(processes: int) -> int:
    """Threads per process: what OMP_NUM_THREADS says, else an equal share of the CPU's cores."""
    return int(os.environ.get("OMP_NUM_THREADS") or max(1, len(usable_cores()) // processes))
