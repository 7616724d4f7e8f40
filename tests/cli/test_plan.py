"""The arithmetic of a plan, against what the rollout really decides."""

from __future__ import annotations

import subprocess
import sys
from statistics import mean

import pytest

from likewise.config import Recipe, load_recipe, shipped_recipes
from likewise.rollout.steps import plan_steps
from likewise.trainer.plan import mean_fork, plan_of, trained_steps
from likewise.trainer.probe import Speed, slowest

STEPS = [
    "{kind: all}",
    "{kind: random, fraction: 0.5}",
    "{kind: window, size: 2}",
    "{kind: window, size: 3, first: 1, last: 4, order: forward, every: 2}",
]


def recipe(*overrides: str) -> Recipe:
    """One whose numbers are written here, however the shipped one is tuned."""
    fixed = ["rollout.trained={kind: random, fraction: 0.6}", "rollout.deterministic_tail=0"]
    fixed += ["run.processes=1", "run.iterations=50", "rollout.num_steps=6"]
    fixed += ["rollout.tasks=16", "rollout.group_size=12"]
    return load_recipe("stickers", [*fixed, *overrides])


@pytest.mark.parametrize("trained", STEPS)
@pytest.mark.parametrize("tail", [0, 2])
def test_steps_are_those_of_the_rollout(trained: str, tail: int) -> None:
    settings = recipe(
        "rollout.num_steps=9", f"rollout.trained={trained}", f"rollout.deterministic_tail={tail}"
    ).rollout
    plans = [plan_steps(settings, 0, iteration) for iteration in range(1000)]
    assert {len(plan.trained) for plan in plans} == {trained_steps(settings)}
    forks = mean(plan.stochastic[0] for plan in plans)
    assert mean_fork(settings, 1000) == pytest.approx(forks, abs=0.2)


def test_a_shared_start_is_drawn_once_per_task() -> None:
    window = "rollout.trained={kind: window, size: 2, first: 3, last: 3}"
    plan = plan_of(recipe("rollout.tasks=4", "rollout.group_size=5", window))
    assert plan.iteration.rollout == 4 * 3 + 20 * 3
    assert plan.iteration.update == 20 * 2
    alone = plan_of(
        recipe("rollout.tasks=4", "rollout.group_size=5", window, "rollout.shared_noise=false")
    )
    assert alone.iteration.rollout == 20 * 6


def test_guidance_and_kl_cost_forwards() -> None:
    plain = plan_of(recipe()).iteration
    assert (plain.tasks, plain.pictures, plain.rollout) == (16, 192, 192 * 6)
    assert (plain.update, plain.reference) == (192 * 4, 0)
    dear = plan_of(recipe("objective.kl=0.1", "policy.true_cfg_scale=2")).iteration
    assert (dear.rollout, dear.update, dear.reference) == (192 * 12, 192 * 8, 192 * 8)


def test_processes_share_the_work_and_the_slowest_counts() -> None:
    odd = ["rollout.tasks=3", "rollout.group_size=3", "run.evaluation.every=0"]
    plan = plan_of(recipe(*odd, "run.processes=2"))
    assert plan.iteration.pictures == 9 and plan.busiest.pictures == 5
    assert plan.iteration.tasks == 4  # both encode the group in the middle
    speed = Speed(encode=0, rollout=0, score=1, judge=9, update=0, parameters=1, memory_mb=1)
    assert speed.of_iteration(plan) == 5
    assert speed.of_run(plan) == 5 * 50


@pytest.mark.parametrize(
    ("iterations", "every", "count"), [(50, 10, 6), (25, 10, 4), (5, 10, 2), (5, 0, 0)]
)
def test_evaluations_are_counted_with_first_and_last(
    iterations: int, every: int, count: int
) -> None:
    plan = plan_of(recipe(f"run.iterations={iterations}", f"run.evaluation.every={every}"))
    assert plan.evaluations == count


def test_optimiser_steps() -> None:
    assert plan_of(recipe("optimizer.updates_per_iteration=4")).updates == 200


def test_every_shipped_recipe_has_a_plan() -> None:
    for name in shipped_recipes():
        assert plan_of(load_recipe(name, ["run.processes=3"])).iteration.update > 0


def test_auto_has_to_be_settled_first() -> None:
    with pytest.raises(ValueError, match="settle"):
        plan_of(load_recipe("stickers"))


def test_the_slowest_of_each_part_counts() -> None:
    one, other = Speed(1, 2, 3, 4, 5, 6, 7), Speed(2, 1, 3, 4, 6, 6, 8)
    assert slowest([one, other]) == Speed(2, 2, 3, 4, 6, 6, 8)


def test_planning_does_not_import_torch() -> None:
    code = "import sys, likewise.trainer.plan; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
