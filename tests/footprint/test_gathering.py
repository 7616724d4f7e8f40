"""What blocks in shards take while they are together, on a model whose sums can be done by hand."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from likewise.footprint.gathering import Gathering
from likewise.footprint.tracker import Tracker

WEIGHTS = 64 * 64  # of a block, float32
ROOT = 64 * 32


class Block(nn.Module):
    """Takes its input by name, as diffusers' blocks do."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(64, 64))

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.weight


class Model(nn.Module):
    _no_split_modules = ("Block",)

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(32, 64, bias=False)
        self.blocks = nn.ModuleList(Block() for _ in range(3))

    def forward(self, x: Tensor, checkpointing: bool = False) -> Tensor:
        x = self.first(x)
        for block in self.blocks:
            if checkpointing:
                x = torch.utils.checkpoint.checkpoint(block, x=x, use_reentrant=False)
            else:
                x = block(x=x)
        return x.sum()


def peak(gradient: bool, keeps_messages: bool = False, **how: bool) -> int:
    """Numbers, activations of a single row left out."""
    model, x = Model(), torch.zeros(1, 32)
    with (
        Tracker() as tracker,
        Gathering(model, 2, keeps_messages),
        torch.set_grad_enabled(gradient),
    ):
        tracker.know([x, *model.parameters()])
        loss = model(x, **how)
        if gradient:
            loss.backward()
    assert all(one.grad is None for one in model.parameters())
    return tracker.peak // 4 // ROOT * ROOT  # a block is two of these


def test_a_message_waits_for_the_next_in_a_forward() -> None:
    assert peak(gradient=False) == ROOT + 2 * WEIGHTS


@pytest.mark.parametrize("checkpointing", [False, True])
def test_gradients_meet_two_blocks_or_two_messages(checkpointing: bool) -> None:
    """A block with its gradient, the next in a message, and the last block's message."""
    assert peak(gradient=True, checkpointing=checkpointing) == ROOT + 4 * WEIGHTS


def test_messages_of_a_gpu_have_memory_of_their_own() -> None:
    assert peak(gradient=False, keeps_messages=True) == ROOT + 3 * WEIGHTS
