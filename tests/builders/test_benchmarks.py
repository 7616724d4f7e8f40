"""Tasks that chose a checkpoint are told by what they show, and do not measure it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from PIL import Image

from likewise.api.evaluation import _chosen_on
from likewise.api.targets import Target
from likewise.builders.benchmarks import load_benchmark, same_tasks
from likewise.config import load_recipe
from likewise.config.evaluation_settings import STICKER_BENCH
from likewise.data.stickers.world import bench_subset, training_task

RECIPE = load_recipe("stickers", ["run.evaluation.tasks=8"])


def test_tasks_are_the_same_by_prompt_and_reference() -> None:
    tasks, drawn = load_benchmark(STICKER_BENCH, 40), bench_subset(8)
    renamed = [replace(task, id=f"mine-{task.id}") for task in drawn]
    assert same_tasks(tasks, renamed, RECIPE.policy) == {task.id for task in drawn}
    white = Image.new("RGB", (64, 64), "white")
    elsewhere = [replace(task, reference=white) for task in drawn]
    assert same_tasks(tasks, elsewhere, RECIPE.policy) == set()
    assert same_tasks(tasks, [replace(drawn[0], prompt="a cat")], RECIPE.policy) == set()


def test_tuning_tasks_are_about_other_subjects_and_no_runs() -> None:
    tuning, bench = load_benchmark("sticker-tuning"), load_benchmark(STICKER_BENCH)
    assert not {task.subject for task in tuning} & {task.subject for task in bench}
    trained = {training_task(index, seed).id for seed in (0, 20) for index in range(50)}
    assert len({task.id for task in tuning} - trained) == 300


def test_what_chose_the_best_checkpoint_does_not_measure_it() -> None:
    target = Target("", ("before", "after"), "a run", RECIPE)
    without = _chosen_on(target, STICKER_BENCH)
    assert without == {task.id for task in bench_subset(8)}
    left = load_benchmark(STICKER_BENCH, 100, without)
    assert len(left) == 100 and not without & {task.id for task in left}
    everything = load_recipe("stickers", ["run.evaluation.tasks=750"])
    with pytest.raises(ValueError, match="every task of the benchmark chose this checkpoint"):
        _chosen_on(replace(target, recipe=everything), STICKER_BENCH)


def test_without_its_data_a_run_cannot_tell_what_chose_it() -> None:
    lost = load_recipe("stickers", ["data={kind: folder, path: nowhere}"])
    with pytest.warns(UserWarning, match="which tasks chose the checkpoint cannot be told: there"):
        assert _chosen_on(Target("", ("after",), "a run", lost), STICKER_BENCH) == frozenset()
