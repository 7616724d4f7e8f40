"""What every policy asks of the pictures it draws: a size that fits, and noise to start from."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def check_size(height: int, width: int, multiple: int) -> None:
    """Raises ValueError unless both are positive multiples of `multiple` pixels."""
    if height < 1 or width < 1 or height % multiple or width % multiple:
        raise ValueError(
            f"height and width must be multiples of {multiple}, not {height} and {width}"
        )


def seeded_noise(shape: Sequence[int], seeds: Sequence[int]) -> Tensor:
    """Standard normal, float32 [B, *shape] on the CPU, row b from seeds[b] alone.

    As a float32 stock pipeline draws it with ``torch.Generator().manual_seed(seed)``.
    """
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    return torch.stack([torch.randn(*shape, generator=one) for one in generators])
