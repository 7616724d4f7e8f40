"""Groups of samples: what makes them differ, batch sizes, missing scores."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from PIL import Image
from rolling import LinearPolicy, sampler, some_tasks
from torch import Tensor

from likewise.evaluation.sample_groups import score_groups
from likewise.types import Task


class Brightness:
    """Mean grey; unknown for tasks in the snow."""

    def score(self, images: Sequence[Image.Image], tasks: Sequence[Task]) -> tuple[Tensor, Tensor]:
        values = torch.tensor([float(np.asarray(image, np.float32).mean()) for image in images])
        return values, torch.tensor(["snow" not in task.prompt for task in tasks])


class Broken:
    def score(self, images: Sequence[Image.Image], tasks: Sequence[Task]) -> tuple[Tensor, Tensor]:
        raise RuntimeError("no luck")


def values(steps: Sequence[int], micro_batch: int = 5, **options: int) -> np.ndarray:
    policy, scorers = LinearPolicy(), {"bright": Brightness()}
    how = sampler(policy)
    return score_groups(policy, how, some_tasks(4), scorers, steps, 6, micro_batch, **options)[
        "bright"
    ]


def test_samples_of_a_group_differ_by_the_noise_of_steps_alone() -> None:
    found, still = values([0, 1]), values([])
    known = ~np.isnan(found).any(1)
    assert found.shape == (4, 6) and known.sum() >= 2
    assert (found[known].std(1) > 0).all()
    assert still[known].std(1) == pytest.approx(0)  # one initial noise
    assert np.unique(still[known, 0]).size == known.sum()  # another one in each group


def test_the_batch_size_changes_nothing() -> None:
    one, other = (values([0, 1], micro_batch=size) for size in (1, 24))
    assert one == pytest.approx(other, abs=1e-3, nan_ok=True)
    assert one != pytest.approx(values([0, 1], seed=1), abs=1e-3, nan_ok=True)


def test_a_scorer_that_fails_is_named() -> None:
    policy = LinearPolicy()
    with pytest.raises(ValueError, match="bad failed: RuntimeError: no luck"):
        score_groups(policy, sampler(policy), some_tasks(2), {"bad": Broken()}, [0], 2, 4)
