"""Seconds per phase of an iteration, and peak memory."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch


class Clock:
    """Adds up the seconds spent in each named phase."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.started = time.perf_counter()
        self.phases: dict[str, float] = {}

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        started = time.perf_counter()
        try:
            yield
        finally:
            if self.device.type == "cuda":
                torch.cuda.synchronize(self.device)  # or the time would count elsewhere
            self.phases[name] = self.phases.get(name, 0.0) + time.perf_counter() - started

    def row(self) -> dict[str, float]:
        """``seconds/<phase>``, ``seconds/total``, and ``peak_memory_mb`` of this process so far."""
        seconds = {f"seconds/{name}": value for name, value in self.phases.items()}
        total = time.perf_counter() - self.started
        return {**seconds, "seconds/total": total, "peak_memory_mb": peak_memory_mb(self.device)}


def peak_memory_mb(device: torch.device) -> float:
    """Most memory that this process had so far: of the GPU where there is one, else resident."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)
