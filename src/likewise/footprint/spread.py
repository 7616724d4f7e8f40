"""What of a denoiser is on each GPU where it is spread over several (FSDP2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch


@dataclass(frozen=True)
class Spread:
    """Bytes of one process.

    Attributes:
        size: Processes that share a copy.
        whole: Of the denoiser as it is loaded, before it is spread.
    """

    size: int
    whole: int

    def share(self, size: int) -> int:
        """Bytes of each process, of so many."""
        return -(-size // self.size)


def spread_of(denoiser: Any, size: int, dtype: torch.dtype) -> Spread:
    """How a denoiser is spread over `size` processes.

    Args:
        dtype: What it is loaded in.
    """
    whole = sum(one.numel() for one in denoiser.parameters())
    return Spread(size, whole=whole * dtype.itemsize)
