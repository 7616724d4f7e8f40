"""Which kernels a GPU may use: all that compute right gradients, or only deterministic ones."""

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


@contextmanager
def no_cudnn_attention() -> Iterator[None]:
    """Within this context `scaled_dot_product_attention` does not choose cuDNN's kernel by itself.

    Its backward pass gives NaN on Hopper GPUs (seen with torch 2.11 on an H200 in bfloat16, with
    the nano generator; pytorch/pytorch#196678 is one such case). Rollout and replay must share a
    kernel, so the forward pass does without it too. ``policy.attention`` can still name it.
    """
    before = torch.backends.cuda.cudnn_sdp_enabled()
    torch.backends.cuda.enable_cudnn_sdp(False)
    try:
        yield
    finally:
        torch.backends.cuda.enable_cudnn_sdp(before)
