"""What a plan says of memory, against what training really takes; and its arithmetic."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).parents[1] / "policies"))

from measuring import measured_peak
from shapes import SHAPES, recipe_of

from likewise.api.dry_run import Planner, reference_sizes, weightless_policy
from likewise.builders.policies import add_adapter, build_policy
from likewise.config import Recipe
from likewise.footprint.fake import Weightless
from likewise.footprint.peaks import Peaks
from likewise.footprint.tracker import Tracker
from likewise.footprint.weight_bytes import parts

CPU = torch.device("cpu")


@pytest.mark.parametrize("name", SHAPES)
def test_planned_memory_is_what_training_takes(name: str, tmp_path: Path) -> None:
    recipe = recipe_of(name, tmp_path)
    planned = Planner(gpu=False).memory(recipe).needs.peak
    measured = measured_peak(recipe, tmp_path / "run")
    print(f"\n{name}: planned {planned / 1e6:.1f} MB, measured {measured / 1e6:.1f} MB")
    assert planned == pytest.approx(measured, rel=0.05)  # measured: 3.5 %


@pytest.mark.slow  # a minute for all families
@pytest.mark.parametrize("name", SHAPES)
def test_without_weights_the_same_bytes_live(name: str, tmp_path: Path) -> None:
    recipe = recipe_of(name, tmp_path, "policy.dtype=bfloat16")
    real, planned = _real(recipe), _weightless(recipe)
    assert parts(planned.policy) == parts(real.policy)
    planned.rollout(2)  # as building a real policy does: some classes keep tables of positions
    assert planned.rollout(2) == real.rollout(2)
    assert planned.decode(1) == real.decode(1)
    for checkpointing in (False, True):
        assert planned.update(2, checkpointing) == real.update(2, checkpointing)
    assert planned.update(2, True) < planned.update(2, False)
    assert planned.update(2, True, offloaded=True) < planned.update(2, True)


def test_a_tracker_counts_storages_while_they_live() -> None:
    weight = torch.ones(100)
    with Tracker() as tracker:
        tracker.know([weight])
        weight.mul_(2)
        assert tracker.live == 0
        whole = torch.zeros(1000)
        view = whole[:10]
        assert tracker.live == 4000
        del whole
        assert tracker.live == 4000
        del view
        assert tracker.live == 0
        torch.zeros(500)
    assert (tracker.live, tracker.peak) == (0, 4000)


def test_a_tracker_sees_what_autograd_keeps() -> None:
    layer = nn.Sequential(nn.Linear(10, 20, bias=False), nn.GELU(), nn.Linear(20, 1, bias=False))
    x = torch.ones(100, 10)
    with Tracker() as tracker:
        tracker.know([*layer.parameters()])
        loss = layer(x).sum()
        assert tracker.live == 4 * (100 * 20 * 2 + 1)  # both sides of the GELU, and the loss
        loss.backward()
        assert tracker.live == 4 * (1 + 10 * 20 + 20)  # the loss and the gradients


def test_cuda_keeps_norms_of_narrow_models_in_float32() -> None:
    def kept(like_cuda: bool) -> int:
        with Weightless(like_cuda):
            x = torch.zeros(8, 64, dtype=torch.bfloat16, requires_grad=True)
            with Tracker() as tracker, torch.autocast("cpu", torch.bfloat16):
                y = nn.functional.layer_norm(x, (64,))
            assert y.dtype == (torch.float32 if like_cuda else torch.bfloat16)
        return tracker.live

    narrow = 8 * 64 * 2 + 2 * 8 * 4  # the output, and mean and deviation of each row
    assert kept(False) in (narrow, narrow - 2 * 8 * 2)  # the CPU's may be narrow too
    assert kept(True) == 2 * 8 * 64 * 4 + 2 * 8 * 4  # input and output, widened


def _real(recipe: Recipe) -> Peaks:
    return Peaks(build_policy(recipe, CPU), reference_sizes(recipe))


def _weightless(recipe: Recipe) -> Peaks:
    world = Weightless(like_cuda=False)
    with world:
        policy = weightless_policy(recipe)
        add_adapter(recipe, policy)
    return Peaks(policy, reference_sizes(recipe), world=world)
