"""The same sums in the same order: what a GPU does only if it is asked to (`run.deterministic`)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

CUBLAS = "CUBLAS_WORKSPACE_CONFIG"  # read when cuBLAS starts, with the first product on the GPU


@contextmanager
def deterministic(asked: bool) -> Iterator[None]:
    """Within this context torch uses deterministic algorithms, or raises where it has none.

    Slower on a GPU, above all the backward pass of attention; a CPU is deterministic anyway.
    """
    if not asked:
        yield
        return
    os.environ.setdefault(CUBLAS, ":4096:8")
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)
