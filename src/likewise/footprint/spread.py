"""What of a denoiser is on each GPU where it is spread over several (FSDP2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from likewise.sharding.shards import blocks_of

# Blocks that are whole at a time: the one that is computed, and the next one twice, as it arrives
# in one message and is copied to its parameters.
AT_ONCE = 3


@dataclass(frozen=True)
class Spread:
    """Bytes of one process beside its shards.

    Attributes:
        size: Processes that share a copy.
        whole: Of the denoiser as it is loaded, before it is spread.
        block: Of the largest block's weights, put together for a forward.
        rest: Of the weights in no block, which are together for all of a forward.
        gradients: Of the largest block's gradients, before they are added up.
    """

    size: int
    whole: int
    block: int
    rest: int
    gradients: int

    @property
    def gathered(self) -> int:
        """Weights that are put together at a time."""
        return AT_ONCE * self.block + self.rest

    def share(self, size: int) -> int:
        """Bytes of each process, of so many."""
        return -(-size // self.size)


def spread_of(denoiser: Any, size: int, dtype: torch.dtype) -> Spread:
    """How a denoiser is spread over `size` processes.

    Args:
        dtype: What it computes in, and is loaded in.
    """
    blocks = blocks_of(denoiser)
    inside = {id(one) for block in blocks for one in block.parameters()}
    rest = [one for one in denoiser.parameters() if id(one) not in inside]
    width = dtype.itemsize
    # Gradients are as narrow as the weights at first, and float32 in the message that adds them up.
    trained = [
        sum(one.numel() for one in part if one.requires_grad)
        for part in (rest, *(list(block.parameters()) for block in blocks))
    ]
    return Spread(
        size,
        sum(one.numel() for one in denoiser.parameters()) * width,
        max((sum(one.numel() for one in block.parameters()) for block in blocks), default=0)
        * width,
        sum(one.numel() for one in rest) * width,
        max(trained, default=0) * (width + 4),
    )
