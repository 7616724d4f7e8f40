"""What lives together in which phase, and which changes are proposed: sums and searches alone."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from likewise.footprint.phases import Needs, stored_latents
from likewise.footprint.remedies import fitting, micro_batches
from likewise.footprint.spread import Spread
from likewise.footprint.weight_bytes import saved_by, storage_bytes, working_copy

NEEDS = Needs(
    denoiser=1000,
    reference=0,
    encoders={"text_encoder": 100, "text_encoder_2": 200, "vae": 50, "image_encoder": 40},
    rewards={"a": 7, "b": 3},
    trained=20,
    averaged=False,
    conditions=5,
    trajectories=6,
    encode=11,
    rollout=12,
    decode=13,
    update=300,
    offload=False,
    extra=1,
    score=14,
)
ALWAYS = 1000 + 10 + 3 * 20 + 5 + 1


def test_every_phase_is_what_lives_in_it() -> None:
    held = ALWAYS + 390
    assert NEEDS.phases == {
        "encode": held + 11,
        "rollout": held + 6 + 12,
        "decode": held + 6 + 13,
        "score": held + 6 + 14,
        "update": held + 6 + 20 + 300,
        "step": held + 6 + 20,
    }
    assert replace(NEEDS, bucket=15).phases["step"] == held + 6 + 20 + 15
    assert replace(NEEDS, bucket=64).phases["step"] == held + 6 + 20 + 20  # one message for all
    assert replace(NEEDS, bucket=15, at_once=True).phases["step"] == held + 6 + 20 + 20
    assert NEEDS.peak == held + 326
    assert replace(NEEDS, averaged=True).peak == NEEDS.peak + 20
    assert replace(NEEDS, reference=70).peak == NEEDS.peak + 70


def test_of_what_is_in_shards_a_process_has_its_part() -> None:
    spread = Spread(size=4, whole=600)
    needs = replace(NEEDS, reference=400, spread=spread)
    kept = 250 + 100 + 15 + 10 + 5 + 1 + 390
    assert needs.phases == {
        "encode": kept + 11,
        "rollout": kept + 6 + 12,
        "decode": kept + 6 + 13,
        "score": kept + 6 + 14,
        "update": kept + 6 + 5 + 300,
        "step": kept + 6 + 5,
        "load": 10 + 390 + 1 + 600 + 250 + 5,
    }


def test_offloaded_parts_visit_for_their_phase() -> None:
    phases = replace(NEEDS, offload=True).phases
    assert phases["encode"] == ALWAYS + 300 + 11  # both text encoders, more than VAE and image's
    assert phases["decode"] == ALWAYS + 50 + 6 + 13
    assert phases["rollout"] == ALWAYS + 6 + 12
    assert phases["update"] == ALWAYS + 6 + 20 + 300


@pytest.mark.parametrize(
    ("trained", "steps", "means", "latents"),
    [
        (1, 10, False, 3),  # where it starts, where it leads, and the finished one
        (10, 10, False, 12),  # a chain of 11
        (6, 10, False, 12),  # at most the chain
        (2, 10, True, 7),
    ],
)
def test_stored_latents(trained: int, steps: int, means: bool, latents: int) -> None:
    assert stored_latents(1, trained, steps, means) == latents
    assert stored_latents(5, trained, steps, means) == 5 * latents


def test_the_shortest_changes_that_suffice_are_found() -> None:
    worth = {"a": 10, "b4": 20, "b2": 30, "c": 5}
    choices = [[("a",)], [("b4",), ("b2",)], [("c",)]]

    def needed(change: tuple[str, ...]) -> int:
        return 100 - sum(worth[one] for one in change)

    assert fitting(choices, needed, 90) == [(("a",), 90), (("b4",), 80)]
    assert fitting(choices, needed, 70) == [(("b2",), 70)]  # nothing longer with a b in it
    assert fitting(choices, needed, 60) == [(("a", "b2"), 60)]
    assert fitting(choices, needed, 55) == [(("a", "b2", "c"), 55)]
    assert fitting(choices, needed, 54) == []
    assert fitting([], needed, 100) == []


def test_micro_batches_are_halved() -> None:
    assert micro_batches(12) == [(f"rollout.micro_batch={size}",) for size in (6, 3, 1)]
    assert micro_batches(1) == []


def test_quantised_bytes_are_those_of_the_libraries() -> None:
    """NF4 with double quantisation: 0.5 + 1/64 + 4/(64·256) bytes (2305.14314, §3)."""
    net = nn.Sequential(nn.Linear(256, 128), nn.Conv2d(3, 4, 3)).to(torch.bfloat16)
    net.requires_grad_(False)
    numbers = 256 * 128
    assert saved_by("bitsandbytes-4bit", net) == numbers * 2 - numbers // 2 - 512 - 8
    assert saved_by("bitsandbytes-8bit", net) == numbers * 2 - numbers - 4 * 128
    assert working_copy(net, torch.bfloat16) == numbers * 2


def test_shared_storages_count_once() -> None:
    whole = torch.zeros(100)
    assert storage_bytes([whole, whole[:3], torch.zeros(2)]) == 408
