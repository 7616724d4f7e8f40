"""What of a denoiser is on each GPU where it is spread over several (FSDP2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from likewise.sharding.shards import blocks_of

# Blocks that are whole at a time. A GPU is ahead of itself: beside the block that it computes, the
# next one arrives in one message, and is copied to its parameters.
ON_GPU, ON_CPU = 3, 1
# Of the largest block, one waits while the next one's gradients arrive.
MESSAGES = 2


@dataclass(frozen=True)
class Spread:
    """Bytes of one process beside its shards.

    Attributes:
        size: Processes that share a copy.
        whole: Of the denoiser as it is loaded, before it is spread.
        gathered: Of weights that are together at a time, for a forward: blocks, and for all of it
            what is in no block.
        gradients: Of a block's gradients, and of the messages that add such gradients up.
    """

    size: int
    whole: int
    gathered: int
    gradients: int

    def share(self, size: int) -> int:
        """Bytes of each process, of so many."""
        return -(-size // self.size)


def spread_of(denoiser: Any, size: int, dtype: torch.dtype, gpu: bool) -> Spread:
    """How a denoiser is spread over `size` processes.

    Args:
        dtype: What it computes in, and is loaded in.
    """
    blocks = blocks_of(denoiser)
    inside = {id(one) for block in blocks for one in block.parameters()}
    rest = [one for one in denoiser.parameters() if id(one) not in inside]
    parts = [rest, *(list(block.parameters()) for block in blocks)]
    sizes = [sum(one.numel() for one in part) for part in parts]
    trained = [sum(one.numel() for one in part if one.requires_grad) for part in parts]
    # Gradients are as narrow as the weights at first, and float32 in the message that adds them up.
    gradients = max(trained) * (dtype.itemsize + MESSAGES * torch.float32.itemsize)
    together = sizes[0] + (ON_GPU if gpu else ON_CPU) * max(sizes[1:], default=0)
    return Spread(
        size,
        whole=sum(sizes) * dtype.itemsize,
        gathered=together * dtype.itemsize,
        gradients=gradients,
    )
