"""Checks of sizes, and seeded noise to start from."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def check_size(height: int, width: int, multiple: int) -> None:
    """Raise ValueError unless both are positive multiples of `multiple` pixels."""
    if height < 1 or width < 1 or height % multiple or width % multiple:
        raise ValueError(
            f"height and width must be multiples of {multiple}, not {height} and {width}"
        )


def check_text_length(tokens: int, longest: int) -> None:
    """Raise ValueError unless `max_sequence_length` is 1 to `longest` tokens."""
    if not 1 <= tokens <= longest:
        raise ValueError(f"max_sequence_length must be 1 to {longest}, not {tokens}")


def seeded_noise(shape: Sequence[int], seeds: Sequence[int]) -> Tensor:
    """Standard normal, float32 [B, *shape] on the CPU, sample b from seeds[b] alone.

    As a float32 stock pipeline draws it with ``torch.Generator().manual_seed(seed)``.
    """
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    return torch.stack([torch.randn(*shape, generator=one) for one in generators])
