"""The arithmetic of a plan, against what the rollout really decides."""

from __future__ import annotations

import subprocess
import sys
from statistics import mean

import pytest
from running import TINY, run, said

from likewise.api.dry_run import Planner, changed, for_gpus, micro_batch, missing
from likewise.cli.estimate import _work_rows
from likewise.cli.memory import GB
from likewise.config import Recipe, load_recipe, shipped_recipes
from likewise.rollout.finishes import starts
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
    assert plan.iteration.rollout == 4 * 4 + 20 * 2  # three, and the first stochastic one
    assert plan.iteration.update == 4 + 20
    alone = plan_of(
        recipe("rollout.tasks=4", "rollout.group_size=5", window, "rollout.shared_noise=false")
    )
    assert (alone.iteration.rollout, alone.iteration.update) == (20 * 6, 20 * 2)


@pytest.mark.parametrize(
    ("split", "size", "forked"),
    [
        ("tasks", 2, 4),  # batches of tasks and updates agree
        ("tasks", 8, 8),  # each of two updates replays the batch of all four
        ("samples", 2, 8),  # and here each has samples of all four
    ],
)
def test_each_update_replays_the_fork_for_itself(split: str, size: int, forked: int) -> None:
    window = "rollout.trained={kind: window, size: 2, first: 3, last: 3}"
    several = ["optimizer.updates_per_iteration=2", f"optimizer.split={split}"]
    shape = ["rollout.tasks=4", "rollout.group_size=6", f"rollout.micro_batch={size}"]
    one = plan_of(recipe(*shape, window, *several)).iteration
    assert one.update == forked + 24
    assert (one.tasks, one.images, one.rollout) == (4, 24, 4 * 4 + 24 * 2)


@pytest.mark.parametrize("shared", ["null", "false"])
@pytest.mark.parametrize("trained", STEPS)
@pytest.mark.parametrize("tail", [0, 2])
def test_gains_cost_what_the_rollout_finishes(trained: str, tail: int, shared: str) -> None:
    shape = ["rollout.tasks=4", "rollout.group_size=5", "rollout.num_steps=9"]
    shape += [f"rollout.trained={trained}", f"rollout.deterministic_tail={tail}"]
    shape += [f"rollout.shared_noise={shared}", "run.iterations=1000"]
    plain = plan_of(recipe(*shape)).iteration
    dear = plan_of(recipe(*shape, "credit.shaping.kind=gains")).iteration
    assert (plain.finished, dear.update, dear.images) == (0, plain.update, plain.images)
    settings, images, forwards = recipe(*shape).rollout, [], []
    for iteration in range(1000):
        steps = plan_steps(settings, 0, iteration)
        fork = steps.stochastic[0] if shared == "null" else None
        counts = {start: 4 if start == fork else 20 for start in starts(steps)}
        images.append(sum(counts.values()))
        forwards.append(sum(count * (9 - start) for start, count in counts.items()))
    assert dear.finished == pytest.approx(mean(images), rel=0.02)
    assert dear.rollout - plain.rollout == pytest.approx(mean(forwards), rel=0.03)


def test_a_plan_says_what_gains_cost() -> None:
    plain, dear = (
        load_recipe(name, ["run.processes=1"]) for name in ("stickers", "stickers-gains")
    )
    one, other = plan_of(plain), plan_of(dear)
    assert (one.iteration.rollout, other.iteration.rollout) == (740, 1528)
    told = dict((text, name) for name, text in _work_rows(dear, other))
    assert "104 more images are finished and scored, for gains" in told
    assert not any("for gains" in text for _, text in _work_rows(plain, one))
    speed = Speed(encode=0, rollout=1, score=1, evaluator=0, update=0, parameters=1, memory_mb=1)
    assert speed.of_iteration(other) - speed.of_iteration(one) == 788 + 104


def test_guidance_and_kl_cost_forwards() -> None:
    plain = plan_of(recipe()).iteration
    assert (plain.tasks, plain.images, plain.rollout) == (16, 192, 16 + 192 * 5)
    first = 4 / 6  # how often the step that groups share is among the 4 of 6
    assert plain.update == pytest.approx(16 * first + 192 * (4 - first)) and plain.reference == 0
    dear = plan_of(recipe("objective.kl=0.1", "policy.true_cfg_scale=2")).iteration
    assert (dear.rollout, dear.update) == (2 * plain.rollout, 2 * plain.update)
    assert dear.reference == dear.update


def test_processes_share_the_work_and_the_slowest_counts() -> None:
    odd = ["rollout.tasks=3", "rollout.group_size=3", "run.evaluation.every=0"]
    plan = plan_of(recipe(*odd, "run.processes=2"))
    assert plan.iteration.images == 9 and plan.busiest.images == 5
    assert plan.iteration.tasks == 4  # both encode the group in the middle
    speed = Speed(encode=0, rollout=0, score=1, evaluator=9, update=0, parameters=1, memory_mb=1)
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


def test_a_plan_says_who_scores_the_evaluations() -> None:
    def told(*overrides: str) -> str:
        one = recipe(*overrides)
        return " ".join(" ".join(row) for row in _work_rows(one, plan_of(one)))

    assert "by the rewards and held-out evaluators (identity, prompt)" in told()
    photos = "data={kind: folder, path: here}"
    assert "by the rewards alone: no held-out evaluator" in told(photos)
    look = "evaluators.look={kind: dino, side: identity, model: elsewhere}"
    assert "by the rewards and held-out evaluators (look)" in told(photos, look)
    assert "evaluators" not in told("run.evaluation.every=0")
    assert "benchmark" not in told()
    assert "DreamBench is a benchmark" in told("data={kind: dreambench, path: here}")


# --- memory --------------------------------------------------------------------------------------


def test_a_plan_for_gpus_says_what_would_make_it_fit() -> None:
    result = run("train", *TINY, "--dry-run", "--gpus", 2, "--gpu-memory", 1.5)
    assert result.exit_code == 0, result.output
    for text in ("memory of each of 2 GPUs", "weights: denoiser", "Fits in 1.5 GB", "other GPUs"):
        assert text in said(result)
    tables = result.output[result.output.index("images per iteration") :]
    assert max(map(len, tables.splitlines())) <= 80
    result = run("train", *TINY, "--dry-run", "--gpu-memory", 0.9)
    assert "Does not fit in 0.9 GB, whatever is traded" in said(result)  # CUDA alone takes more


def test_each_remedy_is_checked_by_the_same_arithmetic() -> None:
    recipe = for_gpus(
        load_recipe("stickers", ["policy.dtype=float32", "rollout.micro_batch=8"]), None
    )
    planner = Planner()
    needed = planner.memory(recipe).needs.peak
    limit = needed - (needed - GB) // 3
    found = planner.remedies(recipe, limit)
    assert found
    for change, size in found:
        better = changed(recipe, change)
        assert better != recipe
        assert Planner().memory(better).needs.peak == pytest.approx(size, rel=0.02)
        assert size <= limit < needed


def test_evaluators_take_memory_where_they_are_asked() -> None:
    taste = "evaluators.taste={kind: pickscore, side: prompt}"
    look = "evaluators.look={kind: dino, side: identity, model: some/where}"
    asked, _ = Planner().scorers.sizes(load_recipe("stickers", [taste, look]), 1)
    assert list(asked) == ["prompt", "identity", "evaluator taste", "evaluator look"]
    assert asked["evaluator taste"] == pytest.approx(3.95e9, rel=0.01)
    assert asked["evaluator look"] is None  # nobody knows
    never = load_recipe("stickers", [taste, "run.evaluation.every=0"])
    assert list(Planner().scorers.sizes(never, 1)[0]) == ["prompt", "identity"]


def test_stored_trajectories_are_shared_by_gpus() -> None:
    base = load_recipe("stickers", ["rollout.micro_batch=2"])
    planner = Planner()
    one, four = (planner.memory(for_gpus(base, count)).needs for count in (1, 4))
    assert one.trajectories == 4 * four.trajectories > 0
    assert one.denoiser == four.denoiser and one.update == four.update


def test_a_micro_batch_is_no_larger_than_what_a_process_has() -> None:
    small = load_recipe("stickers", ["rollout.tasks=1", "rollout.group_size=4"])
    assert micro_batch(for_gpus(small, 1)) == 4
    assert micro_batch(for_gpus(small, 2)) == 2
    assert micro_batch(for_gpus(load_recipe("stickers"), 1)) == 32


def test_what_a_machine_lacks_is_named() -> None:
    assert missing(load_recipe("stickers")) == []
    assert missing(load_recipe("stickers", ["policy.model=some/where"])) == ["some/where"]
    assert {"facebook/dino-vits16", "subjects200k"} <= {*missing(load_recipe("kontext"))}
    unknown = run("train", "stickers", "policy.model=some/where", "--dry-run")
    assert unknown.exit_code == 2
    assert "'some/where' is not a directory" in said(unknown) and "FLUX.1-dev" in said(unknown)


def test_a_plan_for_gpus_is_no_run() -> None:
    result = run("train", *TINY, "--gpus", 2)
    assert result.exit_code == 2 and "use them with --dry-run" in said(result)
