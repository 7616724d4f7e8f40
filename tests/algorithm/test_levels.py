"""Noise levels of finished images, and the steps that they belong to."""

from __future__ import annotations

import pytest
import torch

from likewise.algorithm.levels import SMALLEST, draw_levels, step_of

SIGMAS = torch.tensor([1.0, 0.8, 0.5, 0.2, 0.0])


def test_the_grid_is_used_up_before_a_level_is_repeated() -> None:
    levels = draw_levels("grid", SIGMAS, 9, seed=3)
    assert (
        sorted(levels[:4].tolist()) == sorted(SIGMAS[:4].tolist()) == sorted(levels[4:8].tolist())
    )
    assert torch.equal(levels, draw_levels("grid", SIGMAS, 9, seed=3))
    assert not torch.equal(levels, draw_levels("grid", SIGMAS, 9, seed=4))


@pytest.mark.parametrize(
    "kind, mean, std", [("uniform", 0.5, 12**-0.5), ("logit-normal", 0.5, 0.208)]
)
def test_drawn_levels_have_their_distribution(kind: str, mean: float, std: float) -> None:
    levels = draw_levels(kind, SIGMAS, 20_000, seed=0)
    assert levels.mean() == pytest.approx(mean, abs=0.01)
    assert levels.std() == pytest.approx(std, abs=0.01)
    assert levels.min() >= SMALLEST and levels.max() <= 1


def test_another_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="not 'log'"):
        draw_levels("log", SIGMAS, 1, 0)


def test_a_level_belongs_to_the_step_whose_interval_holds_it() -> None:
    levels = torch.tensor([1.0, 0.9, 0.8, 0.79, 0.5, 0.3, 0.2, 0.1, 0.001])
    assert step_of(levels, SIGMAS).tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 3]
    assert step_of(SIGMAS[:-1], SIGMAS).tolist() == [0, 1, 2, 3]
    above = SIGMAS * 0.9  # a schedule that starts below 1
    assert step_of(torch.tensor([1.0]), above).tolist() == [0]
