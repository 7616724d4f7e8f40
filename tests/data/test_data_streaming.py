"""Streams of tasks: the same under any number of workers, held-out subjects, and bad rows."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import photosets
import pytest

from likewise.builders.datasets import build_evaluation_tasks, build_stream, open_source, prompts_of
from likewise.config.data import KINDS
from likewise.config.loading import load_recipe
from likewise.config.recipe import Recipe
from likewise.data.sources.index import index_rows
from likewise.types import Task


def recipe_of(kind: str, path: Path, **settings: Any) -> Recipe:
    words = [f"data.kind={kind}", f"data.path={path}", "rollout.tasks=2", "run.evaluation.tasks=6"]
    words += ["rewards.identity.segment=false"]  # there are no masks
    settings = {"workers": 0, **settings}
    words += [f"data.{name}={json.dumps(value)}" for name, value in settings.items()]
    return load_recipe("stickers", ["~data", *words])


def seen(tasks: list[Task]) -> list[tuple[str, str, tuple[bytes, ...]]]:
    """All that tells tasks apart, pixels too."""
    return [
        (task.id, task.prompt, tuple(one.tobytes() for one in task.references + task.other_photos))
        for task in tasks
    ]


def test_order_and_pixels_do_not_depend_on_workers(tmp_path: Path, caplog: Any) -> None:
    """Nor do the rows that replace bad ones, and what is said about these."""
    file = photosets.jsonl(tmp_path, rows=9, subjects=9)
    (tmp_path / "photos" / "4-0.png").write_bytes(b"no image")
    found, said = [], []
    for workers in (0, 1, 3):
        caplog.clear()
        stream = build_stream(recipe_of("jsonl", file, workers=workers, skip_bad=True))
        with caplog.at_level(logging.WARNING):
            found.append(seen([stream(index) for index in (*range(12), 3, 30, 2)]))
        said.append([record.getMessage() for record in caplog.records])
    assert found[0] == found[1] == found[2]
    assert said[0] == said[1] == said[2]
    assert said[0] and set(said[0]) == {
        "data: skipped tasks.jsonl, line 5: not an image: photos/4-0.png is none of "
        "JPEG, PNG, WEBP, GIF, BMP, TIFF"
    }
    assert found[0][12] == found[0][3] and found[0][14] == found[0][2]


def test_every_epoch_shows_every_row_once(tmp_path: Path) -> None:
    file = photosets.jsonl(tmp_path, rows=10, subjects=5)
    stream = build_stream(recipe_of("jsonl", file, held_out=None))
    epochs = [[stream(10 * epoch + position).id for position in range(10)] for epoch in range(2)]
    assert epochs[0] != epochs[1]
    assert all(sorted(epoch) == sorted(f"row-{row}" for row in range(10)) for epoch in epochs)
    other = build_stream(recipe_of("jsonl", file, held_out=None, seed=1))
    assert [other(position).id for position in range(10)] != epochs[0]


@pytest.mark.parametrize("kind", ["jsonl", "folder", "syncd", "subjects200k"])
def test_held_out_subjects_are_never_trained_on(kind: str, tmp_path: Path) -> None:
    path = getattr(photosets, kind)(tmp_path)
    recipe = recipe_of(kind, path, held_out=3)
    evaluation, stream = build_evaluation_tasks(recipe), build_stream(recipe)
    trained = [stream(index) for index in range(20)]
    assert evaluation and not (
        {task.subject for task in evaluation} & {task.subject for task in trained}
    )
    assert len({task.id for task in evaluation}) == len(evaluation) <= 6
    again = build_evaluation_tasks(recipe)
    assert seen(list(again)) == seen(list(evaluation))


def test_a_separate_evaluation_set_leaves_all_rows_to_training(tmp_path: Path) -> None:
    for name in ("train", "test"):
        (tmp_path / name).mkdir()
    file = photosets.jsonl(tmp_path / "train", rows=5, subjects=5)
    other = photosets.jsonl(tmp_path / "test", rows=3, subjects=1)
    recipe = recipe_of("jsonl", file, evaluation=str(other))
    assert sorted(task.id for task in build_evaluation_tasks(recipe)) == ["row-0", "row-1", "row-2"]
    stream = build_stream(recipe)
    assert len({stream(index).id for index in range(5)}) == 5
    rows = photosets.lines_of(other)
    photosets.write_lines(other, [rows[0], {**rows[1], "prompt": ""}])
    with pytest.raises(ValueError, match=r"test/tasks\.jsonl has bad rows: 1 empty prompt"):
        build_evaluation_tasks(recipe)


def test_a_share_of_subjects_is_held_out_by_name_alone(tmp_path: Path) -> None:
    file = photosets.jsonl(tmp_path, rows=600, subjects=1)
    rows = photosets.lines_of(file)
    for number, row in enumerate(rows):
        row["subject"] = f"subject-{number // 2}"
    photosets.write_lines(file, rows)

    def subjects(share: int | None) -> tuple[set[str], set[str]]:
        source = open_source(KINDS["jsonl"](path=str(file)))
        index = index_rows(source, share)
        entries = list(source.entries(0, len(source), content=False))
        training = {entries[row].subject for row in index.training}
        return training, {entries[row].subject for row in index.held_out}

    training, held_out = subjects(10)
    assert not training & held_out and len(training | held_out) == 300
    assert 15 < len(held_out) < 45
    photosets.write_lines(file, rows[100:])  # other subjects go, and these stay where they are
    fewer, fewer_out = subjects(10)
    assert fewer <= training and fewer_out <= held_out
    assert subjects(None)[1] == set()
    for count, sides in ((1, (1, 0)), (2, (1, 1)), (3, (2, 1))):
        photosets.write_lines(file, rows[: 2 * count])
        assert tuple(map(len, subjects(1000))) == sides


def test_bad_rows_are_refused_with_their_count_and_the_command(tmp_path: Path) -> None:
    file = photosets.jsonl(tmp_path, rows=8, subjects=4)
    rows = photosets.lines_of(file)
    rows[1]["prompt"], rows[2]["prompt"] = "", " "
    photosets.write_lines(file, [*rows, "{"])
    with pytest.raises(ValueError) as caught:
        build_stream(recipe_of("jsonl", file))
    text = str(caught.value)
    assert "2 empty prompt (tasks.jsonl, line 2: say what to draw), 1 bad JSON" in text
    assert f"likewise data check {file} --kind jsonl" in text and "data.skip_bad=true" in text


def test_bad_rows_are_skipped_and_logged_if_wanted(tmp_path: Path, caplog: Any) -> None:
    file = photosets.jsonl(tmp_path, rows=8, subjects=4)
    rows = photosets.lines_of(file)
    rows[1]["prompt"] = ""
    photosets.write_lines(file, rows)
    with caplog.at_level(logging.WARNING):
        stream = build_stream(recipe_of("jsonl", file, skip_bad=True, held_out=None))
    assert [record.getMessage() for record in caplog.records] == [
        "data: skipped 1 empty prompt (tasks.jsonl, line 2: say what to draw)"
    ]
    assert {stream(index).id for index in range(7)} == {f"row-{row}" for row in range(8)} - {
        "row-1"
    }


@pytest.mark.parametrize("workers", [0, 1])
def test_an_image_that_breaks_later_is_named_with_file_and_row(
    workers: int, tmp_path: Path
) -> None:
    file = photosets.jsonl(tmp_path, rows=3, subjects=3)
    stream = build_stream(recipe_of("jsonl", file, workers=workers, held_out=None))
    for photo in (tmp_path / "photos").iterdir():
        photo.write_bytes(photo.read_bytes()[:70])
    with pytest.raises(ValueError, match=r"line \d: truncated image: photos/\d-0\.png"):
        stream(0)
    skipping = build_stream(recipe_of("jsonl", file, workers=0, held_out=None, skip_bad=True))
    with pytest.raises(ValueError, match=r"tasks\.jsonl has no good image in 3 rows"):
        skipping(0)


def test_nothing_to_train_on_is_an_error(tmp_path: Path) -> None:
    file = photosets.write_lines(tmp_path / "a.jsonl", ["{"])
    with pytest.raises(ValueError, match=r"a\.jsonl has no good row to train on"):
        build_stream(recipe_of("jsonl", file, skip_bad=True))


def test_images_stay_closed_until_a_task_is_asked_for(tmp_path: Path) -> None:
    file = photosets.jsonl(tmp_path, rows=6, subjects=6)
    recipe = recipe_of("jsonl", file, held_out=None)
    for photo in (tmp_path / "photos").glob("*-0.png"):
        photosets.save(photo, 63)  # another image than when the rows were written
    stream = build_stream(recipe)
    for photo in (tmp_path / "photos").glob("*-0.png"):
        photosets.save(photo, 7)
    assert np.asarray(stream(0).reference)[0, 0].tolist() == list(photosets.colour(7))


def test_processes_that_open_images_do_without_torch() -> None:
    modules = "likewise.data.sources.opening, likewise.data.checking"
    code = f"import sys, {modules}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks at processes in /proc")
def test_processes_that_open_images_end_with_a_killed_parent() -> None:
    code = """
import os, time
from likewise.data.worker_pool import start_pool
pool = start_pool(1)  # kept: a pool that nothing refers to ends its processes
print(pool.submit(os.getpid).result(), flush=True)
time.sleep(600)
"""
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    status = Path("/proc", parent.stdout.readline().strip(), "status")
    assert status.is_file()
    parent.kill()
    parent.wait()
    end = time.monotonic() + 60
    while status.is_file() and "State:\tZ" not in status.read_text() and time.monotonic() < end:
        time.sleep(0.1)
    assert not status.is_file() or "State:\tZ" in status.read_text()


def test_rewards_that_need_masks_are_refused_without_any(tmp_path: Path) -> None:
    file = photosets.jsonl(tmp_path, rows=4, subjects=4)
    words = ["data.kind=jsonl", f"data.path={file}", "data.workers=0", "data.held_out=null"]
    with pytest.raises(ValueError, match=r"rewards\.identity: segment is true.*no row .* a mask"):
        build_stream(load_recipe("stickers", words))
    build_stream(load_recipe("stickers", [*words, "rewards.identity.segment=false"]))
    build_stream(load_recipe("stickers", [*words, "rewards.identity.segmenter=a:b"]))


def test_some_rows_without_masks_are_counted(tmp_path: Path, caplog: Any) -> None:
    root = photosets.folder(tmp_path)
    with caplog.at_level(logging.WARNING):
        build_stream(load_recipe("stickers", ["data.kind=folder", f"data.path={root}"]))
    said = [record.getMessage() for record in caplog.records]
    assert said == ["data: 3 of 5 rows have no mask: there, rewards.identity is missing"]


def test_damage_found_on_opening_names_the_check_that_finds_it(tmp_path: Path) -> None:
    file = photosets.jsonl(tmp_path, rows=2, subjects=1)
    (tmp_path / "photos" / "0-0.png").write_bytes(b"no image")
    stream = build_stream(recipe_of("jsonl", file, held_out=None))
    with pytest.raises(ValueError, match=r"data check \S+ --kind jsonl --decode"):
        stream(0)


def test_prompts_of_a_stream_are_those_of_its_rows(tmp_path: Path) -> None:
    file = photosets.jsonl(tmp_path, rows=3, subjects=3)
    stream = build_stream(recipe_of("jsonl", file, held_out=None))
    assert prompts_of(stream) == [f"a duck, number {number}" for number in range(3)]
    assert prompts_of(build_stream(load_recipe("stickers"))) == []
