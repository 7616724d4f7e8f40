"""What seeds are worth."""

from __future__ import annotations

import torch

from likewise.policies.common.sampling_inputs import seeded_noise
from likewise.seeding import derive_seed


def test_seeds_have_63_bits_and_differ_by_type() -> None:
    seeds = [derive_seed("purpose", number) for number in range(200)]
    assert all(0 <= seed < 2**63 for seed in seeds) and len(set(seeds)) == 200
    assert max(seeds) >= 2**62
    assert derive_seed("a", 1) != derive_seed("a", "1")


def test_noise_heeds_the_lowest_32_bits_alone() -> None:
    """As `derive_seed` says of torch; whoever changes it must keep stock pipelines' noise."""
    low, high, other = seeded_noise([16], [7, 7 + 2**32, 8])
    assert torch.equal(low, high) and not torch.equal(low, other)
