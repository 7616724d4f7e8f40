"""The checks of `likewise doctor`. Each is a function that returns findings."""

from __future__ import annotations

import importlib
import os
import platform
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from likewise import __version__, assets
from likewise.cores import usable_cores

PYTHON = (3, 11)
LIBRARIES = ("diffusers", "transformers", "peft", "accelerate")
TRACKERS = ("tensorboard", "wandb", "trackio")
LITTLE_MEMORY_GB = 2.0  # a run of the nano takes about 1 GB per process
LITTLE_DISK_GB = 1.0  # a run of the nano takes about 100 MB
GB = 2**30

Status = Literal["ok", "warning", "problem"]


@dataclass(frozen=True)
class Finding:
    """One line of the table.

    Attributes:
        name: What was checked.
        status: A problem keeps `likewise` from working, a warning does not.
        text: What was found.
        advice: What to do about it; empty if all is well.
    """

    name: str
    status: Status
    text: str
    advice: str = ""


def all_findings() -> Iterator[Finding]:
    """Every check in turn, quick ones first; one that fails itself is a problem."""
    for check in CHECKS:
        try:
            yield from check()
        except Exception as error:
            name = check.__name__.removeprefix("check_").replace("_", " ")
            yield Finding(name, "problem", f"{type(error).__name__}: {error}", "see the message")


def check_python() -> Iterator[Finding]:
    old = sys.version_info < PYTHON
    advice = f"install Python {'.'.join(map(str, PYTHON))} or newer" if old else ""
    yield Finding("Python", "problem" if old else "ok", platform.python_version(), advice)
    yield Finding("likewise", "ok", __version__)


def check_torch() -> Iterator[Finding]:
    """torch itself, and what it can use here."""
    try:
        import torch
    except Exception as error:  # a broken build raises many things
        yield Finding("torch", "problem", str(error), "install it again: pip install torch")
        return
    cuda = f"CUDA {torch.version.cuda}" if torch.version.cuda else "no CUDA"
    yield Finding("torch", "ok", f"{torch.__version__}, {cuda}")
    yield Finding("CPU", "ok", f"{len(usable_cores())} cores usable, {torch_level()}{amx()}")
    for index in range(torch.cuda.device_count()):
        gpu = torch.cuda.get_device_properties(index)
        bf16 = "bfloat16" if torch.cuda.is_bf16_supported() else "no bfloat16"
        yield Finding(f"GPU {index}", "ok", f"{gpu.name}, {gpu.total_memory / GB:.0f} GB, {bf16}")
    if not torch.cuda.is_available():
        yield Finding("GPU", "ok", "none: the nano models do not need one")


def torch_level() -> str:
    """The widest CPU instruction set that torch uses: "AVX512"."""
    import torch

    return torch.backends.cpu.get_cpu_capability()


def amx() -> str:
    """Whether the CPU has matrix tiles: with them, bfloat16 is several times faster."""
    file = Path("/proc/cpuinfo")
    flags = file.read_text(encoding="utf-8").split() if file.is_file() else []
    return ", AMX" if "amx_bf16" in flags else ""


def check_libraries() -> Iterator[Finding]:
    for name in LIBRARIES:
        found = installed(name)
        if found is None:
            yield Finding(name, "problem", "not installed", f"pip install {name}")
        else:
            yield Finding(name, "ok", found)
    yield torchvision()


def torchvision() -> Finding:
    """It is not used; but transformers imports it where it is installed, and then it has to fit."""
    name = "torchvision"
    if find_spec(name) is None:
        return Finding(name, "ok", "not installed, and not needed")
    try:
        importlib.import_module(name)
    except Exception as error:  # its operators are missing, or its libraries do not load
        advice = f"pip uninstall {name}: it is not needed, and does not fit this torch"
        return Finding(name, "problem", f"cannot be imported: {error}", advice)
    return Finding(name, "ok", "installed, and not used")


def check_machine() -> Iterator[Finding]:
    """Memory, disk, threads."""
    total, free = memory_gb()
    little = free < LITTLE_MEMORY_GB
    advice = "close other programs, or use fewer run.processes" if little else ""
    text = f"{free:.1f} of {total:.1f} GB free"
    yield Finding("memory", "warning" if little else "ok", text, advice)
    disk = shutil.disk_usage(Path.cwd()).free / GB
    full = disk < LITTLE_DISK_GB
    advice = "make room, or choose another --run-dir" if full else ""
    yield Finding("disk", "warning" if full else "ok", f"{disk:.1f} GB free here", advice)
    policy = os.environ.get("OMP_WAIT_POLICY", "not set")
    spins = policy.upper() != "PASSIVE"
    advice = "export OMP_WAIT_POLICY=PASSIVE: else other busy programs slow torch 10-50 times"
    text = f"OMP_WAIT_POLICY is {policy}"
    yield Finding("threads", "warning" if spins else "ok", text, advice if spins else "")


def check_trackers() -> Iterator[Finding]:
    for name in TRACKERS:
        found = installed(name)
        if name == "tensorboard" and found is None:
            advice = "pip install tensorboard, or train with run.trackers=[]"
            yield Finding(name, "warning", "not installed; recipes use it", advice)
        else:
            yield Finding(name, "ok", found or "not installed (optional)")


def check_models() -> Iterator[Finding]:
    """Whether every shipped model is there and loads, and how fast the nano draws."""
    missing = []
    for name in assets.names():
        try:
            assets.path(name)
        except FileNotFoundError as error:
            missing.append(name)
            yield Finding(name, "problem", "missing", str(error).partition("; ")[2])
    if missing:
        return
    import torch

    from likewise.builders.parts import build_parts
    from likewise.config import load_recipe

    started = time.perf_counter()
    parts = build_parts(load_recipe("stickers"), torch.device("cpu"))
    seconds = time.perf_counter() - started
    yield Finding("shipped models", "ok", f"all {len(assets.names())} load, in {seconds:.1f} s")
    task = parts.stream(0)
    condition = parts.policy.encode([task])
    noise = parts.policy.initial_noise([0])
    with torch.no_grad():
        parts.policy.velocity(noise, 1.0, condition)
        started = time.perf_counter()
        v = parts.policy.velocity(noise, 1.0, condition)
        seconds = time.perf_counter() - started
    sane = bool(v.isfinite().all())
    advice = "" if sane else "torch computes wrong numbers here: try another version, or float32"
    text = f"{1000 * seconds:.0f} ms for one image" + ("" if sane else ", and not a number")
    yield Finding("nano, one step", "ok" if sane else "problem", text, advice)


def installed(name: str) -> str | None:
    """Version of a library that can really be imported; None if it is not installed.

    Raises:
        Exception: whatever its import raises.
    """
    try:
        found = version(name)
    except PackageNotFoundError:
        return None
    importlib.import_module(name)
    return found


def memory_gb() -> tuple[float, float]:
    """Total and available memory; of the container where it has a limit (cgroup 2)."""
    page = os.sysconf("SC_PAGE_SIZE")
    total = os.sysconf("SC_PHYS_PAGES") * page
    free = total
    info = Path("/proc/meminfo")
    if info.is_file():
        lines = dict(line.split(":", 1) for line in info.read_text().splitlines())
        free = int(lines["MemAvailable"].split()[0]) * 1024
    limit, used = Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")
    if limit.is_file() and used.is_file() and limit.read_text().strip() != "max":
        most = int(limit.read_text())
        total, free = min(total, most), min(free, most - int(used.read_text()))
    return total / GB, free / GB


CHECKS: tuple[Callable[[], Iterator[Finding]], ...] = (
    check_python,
    check_torch,
    check_libraries,
    check_machine,
    check_trackers,
    check_models,
)
