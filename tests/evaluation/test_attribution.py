"""Shares of variance per step: closed forms, batch sizes, missing scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from rolling import LinearCondition, LinearPolicy, sampler, some_tasks
from torch import Tensor

from likewise.analysis.intervals import Estimate, ratio_interval
from likewise.evaluation.attribution import (
    Profile,
    _profile,
    attribute_steps,
    find_unable,
)
from likewise.rollout.sampler import Sampler
from likewise.types import Task

WEIGHTS = torch.tensor([[1.0, -2.0, 0.5], [0.3, 0.0, 2.0], [-1.0, 1.0, 1.0], [0.2, 0.4, -0.6]])
RANGE = 40.0  # of latents, so that no image is clipped


class Linear(LinearPolicy):
    """Images are the latents themselves, one grey pixel per number."""

    def decode(self, x: Tensor) -> Tensor:
        return (0.5 + x.detach() / RANGE).float().unsqueeze(1).repeat(1, 3, 1, 1)


class Erasing(Linear):
    """Every step forgets where it came from: only its own noise is left."""

    def __init__(self, how: Sampler) -> None:
        super().__init__()
        self.how = how

    def velocity(self, x: Tensor, sigma: float | Tensor, condition: LinearCondition) -> Tensor:
        t = self.how.sigmas.tolist().index(float(sigma))
        if t == self.how.num_steps - 1:
            return torch.zeros_like(x)
        one, zero = torch.ones(1, 1), torch.zeros(1, 1)
        keep, move = self.how.stochastic(one, zero, t)[0], self.how.stochastic(zero, one, t)[0]
        return -x * float(keep / move)


class Weighted:
    """A linear function of the latents; unknown for tasks in the snow."""

    def score(self, images: Sequence[Image.Image], tasks: Sequence[Task]) -> tuple[Tensor, Tensor]:
        grey = np.stack([np.asarray(image, dtype=np.float32)[..., 0] for image in images])
        values = (torch.from_numpy(grey) / 255 * RANGE * WEIGHTS).sum((1, 2))
        return values, torch.tensor(["snow" not in task.prompt for task in tasks])


class Constant:
    def score(self, images: Sequence[Image.Image], tasks: Sequence[Task]) -> tuple[Tensor, Tensor]:
        return torch.full((len(images),), 3.0), torch.ones(len(images), dtype=torch.bool)


class Broken:
    def score(self, images: Sequence[Image.Image], tasks: Sequence[Task]) -> tuple[Tensor, Tensor]:
        raise RuntimeError("no luck")


def tasks(count: int = 4) -> list[Task]:
    return [replace(task, subject=f"s{i % 3}") for i, task in enumerate(some_tasks(count))]


def measure(policy: LinearPolicy, how: Sampler, steps: Sequence[int], **options) -> Profile:
    arguments = {"draws": 400, "micro_batch": 500, **options}
    about = arguments.pop("tasks", tasks())
    found = attribute_steps(policy, how, about, {"w": Weighted()}, steps, **arguments)
    return found.profiles["w"]


def closed_form(how: Sampler, steps: Sequence[int]) -> tuple[list[float], float]:
    """Shares of a linear reward of a linear flow: (std·|∂f/∂noise|)² of each step; and the std.

    v = xW' + …, so mean = x(keep + move·W') and the gradient goes back through their product.
    """
    weight = LinearPolicy().weight.detach().T.double()
    gradient, parts = WEIGHTS.double(), [0.0] * how.num_steps
    for t in reversed(range(how.num_steps)):
        here, there = (float(sigma) for sigma in how.sigmas[t : t + 2])
        dt, keep, move = there - here, 1.0, there - here
        if t in steps:  # Flow-SDE at a = 0.7 (docs/method.md §1)
            rate = 0.7**2 * here / (1 - min(here, float(how.sigmas[1])))
            parts[t] = rate * -dt * float((gradient**2).sum())
            keep, move = 1 + rate / (2 * here) * dt, (1 + rate * (1 - here) / (2 * here)) * dt
        gradient = gradient @ (keep * torch.eye(3, dtype=torch.float64) + move * weight).T
    return [part / sum(parts) for part in parts], sum(parts) ** 0.5


@pytest.mark.parametrize("steps", [(0, 1, 2), (1, 2), (0, 2)])
def test_a_linear_flow_has_the_shares_of_the_closed_form(steps: tuple[int, ...]) -> None:
    policy = Linear()
    how = sampler(policy)
    got = measure(policy, how, steps)
    share, std = closed_form(how, steps)
    assert got.share == pytest.approx(share, rel=0.1, abs=2e-3)
    assert got.std == pytest.approx(std, rel=0.05)
    assert all(got.share[t] == got.low[t] == got.high[t] == 0 for t in {0, 1, 2, 3} - {*steps})
    assert all(0 < got.low[t] <= got.share[t] <= got.high[t] for t in steps)


def test_a_score_that_one_step_decides_has_share_1_there_alone() -> None:
    how = sampler(LinearPolicy())
    got = measure(Erasing(how), how, (0, 1, 2))
    assert got.share == pytest.approx([0, 0, 1, 0], abs=0.1)
    assert got.share[:2] == pytest.approx([0, 0], abs=1e-4)


def test_batches_change_nothing() -> None:
    how = sampler(LinearPolicy())
    first = measure(Linear(), how, (0, 1, 2), draws=3, micro_batch=100)
    policy = Linear()
    assert measure(policy, how, (0, 1, 2), draws=3, micro_batch=2) == first
    assert max(rows for _, rows in policy.calls) == 2
    # Each branch starts at its step: 1 + 2 + 3 + 4 forwards of 4 tasks × 3 draws.
    assert sum(rows for _, rows in policy.calls) == 10 * 12
    assert measure(Linear(), how, (0, 1, 2), draws=3, seed=1) != first


def test_only_tasks_that_can_be_scored_count() -> None:
    how, about = sampler(LinearPolicy()), tasks(5)  # the last is in the snow
    told: list[int] = []
    got = measure(Linear(), how, (0, 1), tasks=about, draws=3, micro_batch=6, progress=told.append)
    assert got == measure(Linear(), how, (0, 1), tasks=about[:4], draws=3, micro_batch=6)
    assert told == [2, 4, 5]


def test_a_constant_score_is_decided_by_nothing() -> None:
    how = sampler(LinearPolicy())
    scorers = {"c": Constant(), "w": Weighted()}
    got = attribute_steps(Linear(), how, tasks(), scorers, (0, 1), 2, 8)
    nothing = Estimate(None, None, None, 0)
    assert got.profiles["c"] == Profile((0.0,) * 4, (0.0,) * 4, (0.0,) * 4, 0.0, nothing)
    assert got.delay("c", "w") == got.delay("w", "c") == nothing


class Last:
    """Only the latents' last number, twice as large in tasks about s1."""

    def score(self, images: Sequence[Image.Image], tasks: Sequence[Task]) -> tuple[Tensor, Tensor]:
        grey = torch.tensor([float(np.asarray(image)[-1, -1, 0]) for image in images])
        factor = torch.tensor([1.0 + (task.subject == "s1") for task in tasks])
        return grey * factor, torch.ones(len(images), dtype=torch.bool)


def test_the_centre_is_the_mean_step_by_shares() -> None:
    how = sampler(LinearPolicy())
    scorers = {"w": Weighted(), "last": Last()}
    got = attribute_steps(Linear(), how, tasks(), scorers, (0, 1, 2), 40, 500)
    for profile in got.profiles.values():
        mean = sum(t * share for t, share in enumerate(profile.share)) / sum(profile.share)
        assert profile.centre.mean == pytest.approx(mean) and profile.centre.n == 3
        assert profile.centre.low < mean < profile.centre.high
    delay = got.delay("last", "w")
    centres = [got.profiles[name].centre.mean for name in ("last", "w")]
    assert delay.mean == pytest.approx(centres[0] - centres[1])
    assert delay.low < delay.mean < delay.high
    back = got.delay("w", "last")
    assert (back.mean, back.low, back.high) == pytest.approx((-delay.mean, -delay.high, -delay.low))


def test_a_delay_is_over_the_subjects_that_both_score() -> None:
    """`w` cannot score the task in the snow, the only one about its subject."""
    how, about = sampler(LinearPolicy()), tasks(5)
    about[4] = replace(about[4], subject="s9")
    scorers = {"w": Weighted(), "last": Last()}
    more, fewer = (
        attribute_steps(Linear(), how, some, scorers, (0, 1), 3, 100) for some in (about, about[:4])
    )
    assert more.profiles["last"] != fewer.profiles["last"]
    assert more.delay("last", "w") == fewer.delay("last", "w")


class Failing(Linear):
    """Draws grey for the last of four tasks whatever the latents are, and one NaN for the third."""

    def decode(self, x: Tensor) -> Tensor:
        images = super().decode(x)  # 3 draws of each of 4 tasks, and again for each of two steps
        if len(images) == 36:
            images[9:12], images[18, 0, 0, 0] = 0.5, torch.nan
        return images


def test_tasks_with_images_that_are_spoilt_do_not_count() -> None:
    how, about = sampler(LinearPolicy()), tasks()
    options = {"draws": 3, "micro_batch": 100}
    got = attribute_steps(Failing(), how, about, {"w": Weighted()}, (0, 1), **options)
    assert got.spoilt == {"flat": 3, "not_finite": 1}
    others = attribute_steps(Linear(), how, about[:2], {"w": Weighted()}, (0, 1), **options)
    assert got.profiles == others.profiles and others.spoilt == {}


class Grey(Linear):
    def decode(self, x: Tensor) -> Tensor:
        return torch.full_like(super().decode(x), 0.5)


def test_nothing_but_flat_images_is_said() -> None:
    how = sampler(LinearPolicy())
    wanted = r"w scores tasks of fewer than two subjects; flat images: 24 \(missing in all scores\)"
    with pytest.raises(ValueError, match=wanted):
        attribute_steps(Grey(), how, tasks(), {"w": Weighted()}, (0, 1), 2, 8)


def test_what_cannot_be_measured_is_refused() -> None:
    policy = Linear()
    how, one = sampler(policy), [replace(task, subject="one") for task in tasks()]
    for about, draws in ((one, 2), (tasks(), 1)):
        with pytest.raises(ValueError, match="two draws and tasks about two subjects"):
            attribute_steps(policy, how, about, {"w": Weighted()}, (0,), draws, 8)
    with pytest.raises(ValueError, match="broken failed: RuntimeError: no luck"):
        attribute_steps(policy, how, tasks(), {"broken": Broken()}, (0,), 2, 8)
    snow = [replace(task, prompt="in the snow") for task in tasks()]
    with pytest.raises(ValueError, match="w scores tasks of fewer than two subjects"):
        attribute_steps(policy, how, snow, {"w": Weighted()}, (0,), 2, 8)


def test_intervals_are_wider_than_percentiles_for_few_subjects() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(size=(2, 5, 40)) * np.array([1, 2, 3, 4, 5])[:, None]
    values[1] = values[0] + rng.normal(size=(5, 40)) * np.array([3, 1, 2, 5, 1])[:, None]
    subjects, valid = ["a", "b", "c", "d", "e"], np.ones_like(values, dtype=bool)
    got, _ = _profile("w", values, valid, subjects, (0,), 1)
    part = ((values[0] - values[1]) ** 2).mean(axis=1) / 2
    total = values.var(axis=2, ddof=1).mean(axis=0)
    drawn = np.random.default_rng(1).integers(5, size=(20000, 5))
    low, high = np.percentile(part[drawn].sum(1) / total[drawn].sum(1), [2.5, 97.5])
    assert got.low[0] < low - 0.01 and got.high[0] > high + 0.01
    assert (got.low[0], got.high[0]) == ratio_interval(part, total)


def test_who_cannot_score_is_found_before_anything_is_drawn() -> None:
    scorers = {"w": Weighted(), "broken": Broken(), "c": Constant()}
    snow = [replace(task, prompt="in the snow") for task in tasks()]
    assert find_unable(scorers, snow, (3, 4)) == {
        "w": "it can score 0 of 4 tasks, about 0 subjects",
        "broken": "RuntimeError: no luck",
    }
    assert list(find_unable(scorers, tasks(5), (3, 4))) == ["broken"]
