"""How images are split into micro-batches and over processes changes nothing but rounding.

What the claim can mean, measured on this configuration in float32:

- Rewards see 8-bit images. Latents that differ by 1e-7 now and then round one pixel otherwise; a
  fine reward then moves by 5e-6, and z, in standard deviations of a group, by 1e-3. That is a
  property of pixels and not of splits, so the rewards here are too coarse to notice; where one
  stood on the edge of a step, the comparison is made with another seed.
- Gradients then agree to 1e-6 of their norm, and so do Adam's first moments.
- Adam divides by the size of each gradient, so elements whose gradient is close to rounding move
  by different parts of a learning rate: weights agree to 5e-3 of it at the worst element (below
  2.5e-6 at the learning rate here), and to 1.5e-4 of the way that they went altogether (DGPO;
  others to 2e-5).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import pytest
import runs
import torch
from torch import Tensor

from likewise.api import train
from likewise.records.run_directory import RunDirectory

RATE = 5e-4
GRADIENTS = [("sum", "grpo"), ("sum", "nft"), ("min-norm", "grpo"), ("pcgrad", "crd")]
# With two processes, which take their time to start, one of a kind by default.
OF_TWO = [
    pytest.param(name, marks=() if name == "nft" else pytest.mark.slow) for name in runs.ON_IMAGES
]
GRADIENTS_OF_TWO = [
    pytest.param(*pair, marks=() if pair == ("pcgrad", "crd") else pytest.mark.slow)
    for pair in GRADIENTS
]
Result = Callable[..., Path]


@pytest.fixture(scope="module")
def result(
    tiny_model: Path, launches: runs.Launches, tmp_path_factory: pytest.TempPathFactory
) -> Result:
    """``result(micro_batch, …)``: run directory of two iterations; equal calls share one.

    Processes are the run's own, or forks, which is faster.
    """

    @cache
    def trained(
        micro_batch: int,
        seed: int = 3,
        updates: int = 1,
        processes: int = 1,
        forks: int = 0,
        tasks: int = 2,
        group: int = 4,
        split: str = "tasks",
        objective: str = "grpo",
        gains: bool = False,
        gradients: str | None = None,
        **rollout: Any,
    ) -> Path:
        recipe = runs.tiny_recipe(
            tiny_model,
            seed=seed,
            rewards=runs.COARSE,
            objective=runs.OBJECTIVES[objective],
            credit=runs.GAINS if gains else {},
            rollout={"micro_batch": micro_batch, "tasks": tasks, "group_size": group, **rollout},
            optimizer={
                "learning_rate": RATE,
                "updates_per_iteration": updates,
                "split": split,
                "gradients": runs.GRADIENTS.get(gradients or "", {}),
            },
            run={"processes": processes, "iterations": 2},
        )
        run_dir = tmp_path_factory.mktemp("run") / "run"
        if forks:
            assert launches.run(run_dir, recipe, forks=forks)["code"] == 0
            return run_dir
        return train(recipe, run_dir, quiet=True).run.path

    return trained


def flat(run_dir: Path, part: str) -> Tensor:
    tensors = runs.newest_tensors(run_dir)
    found = [value.flatten() for name, value in tensors.items() if name.endswith(part)]
    return torch.cat(found)


def assert_same(one: Result, other: Result) -> list[Path]:
    """The runs that were compared."""
    ways = runs.off_the_edge(one, other)
    assert_same_runs(*ways)
    return ways


def assert_same_runs(one: Path, other: Path) -> None:
    ours, theirs = runs.rewards(one), runs.rewards(other)
    assert ours == theirs  # raw rewards, z, shaping and advantages: to the last bit

    for row, another in zip(
        *(RunDirectory.open(path).read_metrics() for path in (one, other)), strict=True
    ):
        known, twin = (
            {name: value for name, value in numbers.items() if value is not None}
            for numbers in (row, another)
        )
        assert row.keys() == another.keys()
        assert known == pytest.approx(twin, rel=1e-5, abs=1e-6)

    gradient, its_twin = flat(one, ".exp_avg"), flat(other, ".exp_avg")
    assert gradient.norm() > 1e-5
    assert (gradient - its_twin).norm() < 5e-6 * gradient.norm()

    weights, their_twins = flat(one, "lora_B.weight"), flat(other, "lora_B.weight")  # from 0 on
    assert weights.abs().max() > RATE
    assert (weights - their_twins).norm() < 3e-4 * weights.norm()
    # Adam's first steps divide rounding errors of small gradients by those gradients (awm: 5.3e-3).
    assert (weights - their_twins).abs().max() < 1e-2 * RATE


@pytest.mark.parametrize("micro_batch", [1, 3, 5])
def test_micro_batches_change_nothing(result: Result, micro_batch: int) -> None:
    assert_same(partial(result, 8), partial(result, micro_batch))


@pytest.mark.parametrize("split", ["tasks", "samples"])
def test_micro_batches_change_nothing_with_several_updates(result: Result, split: str) -> None:
    assert_same(
        partial(result, 8, updates=2, split=split), partial(result, 3, updates=2, split=split)
    )


@pytest.mark.parametrize("objective", runs.ON_IMAGES)
def test_micro_batches_change_nothing_for_objectives_on_images(
    result: Result, objective: str
) -> None:
    """With micro-batches of 3, groups of 4 span them."""
    assert_same(*(partial(result, size, updates=2, objective=objective) for size in (8, 3)))


@pytest.mark.parametrize("shared", [None, False])
def test_micro_batches_change_nothing_for_gains(result: Result, shared: bool | None) -> None:
    """Groups of 4 span micro-batches of 3, and have one image before their first step, or four."""
    how = {"gains": True, "shared_noise": shared}
    ways = assert_same(*(partial(result, size, **how) for size in (8, 3)))
    table = runs.rewards(ways[1])
    for name in runs.COARSE:
        steps = sorted(key for key in table if key.startswith(f"gain/{name}/step_"))
        assert len(steps) > 1 and any(any(filter(None, table[key])) for key in steps)


def test_gains_cost_no_sample_and_change_credit_alone(result: Result) -> None:
    """The first iteration draws the same samples, whatever credits them."""
    plain, gains = (runs.rewards(result(8, gains=gains)) for gains in (False, True))
    for key in ("reward/red", "reward/detail", "z/red", "z/detail"):
        assert plain[key][:8] == gains[key][:8]
    keys = [key for key in plain if key.startswith("advantage/")]
    assert any(plain[key][:8] != gains[key][:8] for key in keys)


@pytest.mark.parametrize(("gradients", "objective"), GRADIENTS)
def test_micro_batches_change_nothing_for_gradients_of_rewards(
    result: Result, gradients: str, objective: str
) -> None:
    how = {"updates": 2, "objective": objective, "gradients": gradients}
    assert_same(*(partial(result, size, **how) for size in (8, 3)))


def test_updates_do_change_something(result: Result) -> None:
    ways = [result(8), result(8, updates=2), result(8, updates=2, split="samples")]
    for one, other in itertools.combinations([flat(way, "lora_B.weight") for way in ways], 2):
        assert (one - other).norm() > 0.1 * one.norm()


def test_the_same_run_is_the_same_in_every_bit(
    result: Result, tiny_model: Path, tmp_path: Path
) -> None:
    first = result(8)
    again = train(RunDirectory.open(first).recipe, tmp_path / "again", quiet=True).run.path
    assert runs.snapshot(again) == runs.snapshot(first)


def test_two_processes_are_one(result: Result) -> None:
    """Five images each of three tasks, in shares of 7 and 8: both processes share task 1."""
    sizes = {"tasks": 3, "group": 5}
    _, two = assert_same(partial(result, 4, **sizes), partial(result, 4, processes=2, **sizes))

    table = runs.rewards(two)
    assert table["sample"] == [0, 1, 2, 3, 4] * 6
    for name in runs.COARSE:
        values = torch.tensor(table[f"reward/{name}"], dtype=torch.float64).view(6, 5)
        centred = values - values.mean(1, keepdim=True)
        wanted = centred / values.std(1, keepdim=True)  # no group is flat
        got = torch.tensor(table[f"z/{name}"], dtype=torch.float64).view(6, 5)
        torch.testing.assert_close(got, wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.slow
def test_two_processes_are_one_where_updates_split_groups(result: Result) -> None:
    """Two samples each of three tasks in an update, in shares of 3: both processes share task 1."""
    how = {"tasks": 3, "updates": 2, "split": "samples"}
    assert_same(partial(result, 4, **how), partial(result, 2, forks=2, **how))


@pytest.mark.parametrize("objective", OF_TWO)
def test_two_processes_are_one_for_objectives_on_images(result: Result, objective: str) -> None:
    sizes = {"tasks": 3, "group": 5, "objective": objective}
    assert_same(partial(result, 4, **sizes), partial(result, 4, forks=2, **sizes))


@pytest.mark.slow
def test_two_processes_are_one_for_gains(result: Result) -> None:
    sizes = {"tasks": 3, "group": 5, "gains": True}
    assert_same(partial(result, 4, **sizes), partial(result, 4, forks=2, **sizes))


@pytest.mark.parametrize(("gradients", "objective"), GRADIENTS_OF_TWO)
def test_two_processes_are_one_for_gradients_of_rewards(
    result: Result, gradients: str, objective: str
) -> None:
    how = {"tasks": 3, "group": 5, "objective": objective, "gradients": gradients}
    assert_same(partial(result, 4, **how), partial(result, 4, forks=2, **how))


@pytest.mark.parametrize("updates", [1, 2])
def test_processes_of_another_launcher_are_one(result: Result, updates: int) -> None:
    """Two tasks in two updates: every group spans both processes. Micro-batches differ too."""
    ways = partial(result, 8, updates=updates), partial(result, 3, updates=updates, forks=2)
    assert_same(*ways)
