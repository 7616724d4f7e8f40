"""Every layout of data, as its documentation says it: rows, words, and which image is which."""

from __future__ import annotations

import json
import pickle
import random
from pathlib import Path
from typing import Any

import numpy as np
import photosets
import pytest
from photosets import colour, colour_of
from PIL import Image

from likewise.builders.datasets import guess_kind, open_source
from likewise.config.data import KINDS
from likewise.config.loading import load_recipe
from likewise.data.sources.entries import Problem, Source
from likewise.data.sources.opening import open_row
from likewise.data.sources.spans import array_spans, read_spans
from likewise.types import Task

POLICY = load_recipe("stickers").policy
SIZE = (POLICY.width, POLICY.height)


def source_of(kind: str, path: Path, **settings: Any) -> Source:
    assert guess_kind(path) == kind
    return open_source(KINDS[kind](path=str(path), **settings))


def tasks_of(source: Source) -> list[Task]:
    found = [open_row(source, row, POLICY) for row in range(len(source))]
    assert not [problem for problem in found if isinstance(problem, Problem)]
    tasks = [task for task in found if isinstance(task, Task)]
    assert all(one.size == SIZE for task in tasks for one in task.references)
    assert len({task.id for task in tasks}) == len(tasks)
    return tasks


def shades(task: Task) -> tuple[list[photosets.Colour], list[photosets.Colour]]:
    """Colours of references and of held-out photos."""
    return [*map(colour_of, task.references)], [*map(colour_of, task.other_photos)]


def test_a_manifest_says_everything_about_a_task(tmp_path: Path) -> None:
    file = photosets.jsonl(tmp_path, rows=3)
    first, second, third = photosets.lines_of(file)
    photosets.save_mask(tmp_path / "masks" / "0.png", (80, 60))  # larger, of the same shape
    first |= {"masks": ["masks/0.png", None], "category": "bird", "kind": "layout", "complexity": 2}
    first["references"] += ["photos/1-0.png"]
    del second["subject"], second["heldout_references"], second["class"]
    file.write_text("\ufeff" + "\n\n".join(map(json.dumps, (first, second, third))), "utf-8")
    one, two, _ = tasks_of(source_of("jsonl", file))
    assert (one.id, one.prompt, one.class_name) == ("row-0", "a duck, number 0", "duck")
    assert (one.subject, one.category, one.kind, one.complexity) == ("duck-0", "bird", "layout", 2)
    assert shades(one) == ([colour(0), colour(2)], [colour(1)])
    assert one.reference_mask is not None and one.reference_mask.mode == "L"
    white = np.asarray(one.reference_mask)
    assert one.reference_mask.size == SIZE and set(np.unique(white)) == {0, 255}
    assert white[:, : SIZE[0] // 2 - 4].min() == 255 and white[:, SIZE[0] // 2 + 4 :].max() == 0
    assert (two.subject, two.class_name, two.category) == ("photos/1-0.png", "", "other")
    assert (two.kind, two.complexity, two.other_photos) == ("scene", 1, ())
    assert two.reference_mask is None


def test_photos_are_upright_and_on_white_with_their_masks(tmp_path: Path) -> None:
    file = photosets.jsonl(tmp_path, rows=2)
    sideways = Image.new("RGB", (60, 30), colour(5))  # a camera held on its side: black is below
    sideways.paste("black", (30, 0, 60, 30))
    exif = sideways.getexif()
    exif[0x0112] = 6
    sideways.save(tmp_path / "photos" / "0-0.png", exif=exif)
    mask = Image.new("L", (30, 60), 0)
    mask.paste(255, (0, 0, 30, 30))
    mask.save(tmp_path / "photos" / "mask.png")
    Image.new("RGBA", (40, 30), (0, 0, 0, 0)).save(tmp_path / "photos" / "1-0.png")
    first, second = photosets.lines_of(file)
    photosets.write_lines(file, [{**first, "masks": ["photos/mask.png"]}, second])
    turned, clear = tasks_of(source_of("jsonl", file))
    assert turned.reference.getpixel((SIZE[0] // 2, 2)) == colour(5)
    assert turned.reference.getpixel((SIZE[0] // 2, SIZE[1] - 3)) == (0, 0, 0)
    assert turned.reference_mask is not None
    assert turned.reference_mask.getpixel((SIZE[0] // 2, 2)) == 255
    assert turned.reference_mask.getpixel((SIZE[0] // 2, SIZE[1] - 3)) == 0
    assert clear.reference.getpixel((0, 0)) == (255, 255, 255)


def test_a_folder_of_subjects(tmp_path: Path) -> None:
    source = source_of("folder", photosets.folder(tmp_path))
    tasks = tasks_of(source)
    assert [(task.id, task.prompt, task.kind, task.class_name) for task in tasks] == [
        ("dog-000", "a puppy in the snow", "scene", "puppy"),
        ("dog-001", "a blue puppy", "property", "puppy"),
        ("dog-002", "a puppy asleep", "scene", "puppy"),
        ("red_teapot2-000", "a red teapot in the snow", "scene", "red teapot"),
        ("red_teapot2-001", "a blue red teapot", "property", "red teapot"),
    ]
    assert shades(tasks[0]) == ([colour(8)], [colour(9)])
    assert shades(tasks[3]) == ([colour(0)], [colour(1), colour(2)])
    assert tasks[0].reference_mask is None and tasks[3].reference_mask is not None
    several = tasks_of(source_of("folder", tmp_path, references=2))
    assert shades(several[3]) == ([colour(0), colour(1)], [colour(2)])
    assert shades(several[0]) == ([colour(8), colour(9)], [])


def test_syncd_draws_each_image_from_the_others_of_its_set(tmp_path: Path) -> None:
    tasks = tasks_of(source_of("syncd", photosets.syncd(tmp_path)))
    assert len(tasks) == 12
    assert [(task.id, task.prompt) for task in tasks[3:5]] == [
        ("1/a-0", "a clock 1 in place 0"),
        ("1/a-1", "a clock 1 in place 1"),
    ]
    assert {(task.subject, task.class_name, task.category) for task in tasks[3:6]} == {
        ("1/a", "a clock", "rigid")
    }
    assert [shades(task) for task in tasks[3:6]] == [
        ([colour(4)], [colour(3)]),
        ([colour(5)], [colour(4)]),
        ([colour(3)], [colour(5)]),
    ]
    assert all(task.reference_mask is not None for task in tasks)
    (tmp_path / "1" / "masks" / "b.jpg").unlink()  # masks may be missing
    both = tasks_of(source_of("syncd", tmp_path, references=2))
    assert shades(both[3]) == ([colour(4), colour(5)], [colour(3)])
    assert both[3].reference_mask is None and both[4].reference_mask is not None


def test_subjects200k_draws_each_half_from_the_other(tmp_path: Path) -> None:
    ratings = [5, 4, 5, 5, 5, 5]
    source = source_of("subjects200k", photosets.subjects200k(tmp_path, ratings=ratings))
    tasks = tasks_of(source)
    assert source.notes == ("1 pairs are left out: rated below 5, or not described",)
    assert len(tasks) == 10
    assert [task.prompt for task in tasks[:3]] == [
        "Item 0 on a desk.",
        "Item 0 on a beach.",
        "Item 2 on a desk.",
    ]
    assert shades(tasks[0]) == ([colour(1)], [colour(0)])
    assert shades(tasks[1]) == ([colour(0)], [colour(1)])
    assert shades(tasks[-1]) == ([colour(10)], [colour(11)])
    assert (tasks[0].class_name, tasks[0].category) == ("Item 0", "Furniture")
    assert tasks[0].subject == tasks[1].subject != tasks[2].subject
    assert len(source_of("subjects200k", tmp_path, quality=4)) == 12
    # As OminiControl's training crops the published 1056×528: (8, 8, 520, 520), (528, 8, 1040, 520)
    (entry,) = source.entries(0, 1, content=False)
    assert not isinstance(entry, Problem)
    right, left = entry.references[0], entry.others[0]
    assert left.box((1056, 528)) == (8, 8, 520, 520)
    assert right.box((1056, 528)) == (528, 8, 1040, 520)


def test_dreambench_is_checked_row_by_row(tmp_path: Path) -> None:
    sheet = (
        "Classes\n\nsubject_name,class\nmug,mug\n\nObject Prompts\n'a {0} {1} in the snow'\n\n"
        "Live Subject Prompts\n'a {0} {1} asleep'\n"
    )
    (tmp_path / "prompts_and_classes.txt").write_text(sheet, "utf-8")
    for photo in range(2):
        photosets.save(tmp_path / "mug" / f"{photo}.png", photo)
    (task,) = tasks_of(source_of("dreambench", tmp_path))
    assert (task.id, task.prompt) == ("mug-00", "a mug in the snow")
    assert shades(task) == ([colour(0)], [colour(1)])


@pytest.mark.parametrize("kind", ["jsonl", "folder", "syncd", "subjects200k"])
def test_rows_come_out_alike_in_any_portions_and_pickle_small(kind: str, tmp_path: Path) -> None:
    source = source_of(kind, getattr(photosets, kind)(tmp_path))
    whole = list(source.entries(0, len(source), content=False))
    assert [entry.row for entry in whole] == list(range(len(source)))
    for _ in range(5):
        start, stop = sorted(random.sample(range(len(source) + 1), 2))
        assert list(source.entries(start, stop, content=False)) == whole[start:stop]
    copy = pickle.loads(pickle.dumps(source))
    assert list(copy.entries(1, 4, content=False)) == whole[1:4]


@pytest.mark.parametrize("text", ['[{"é": 1}, [2, "é]"], 3]', ' [ 4 ,\n"]"\n]\n', "[]"])
def test_elements_of_an_array_are_found_by_their_bytes(text: str, tmp_path: Path) -> None:
    file, seen = tmp_path / "a.json", []
    file.write_text(text, "utf-8")
    spans = array_spans(file, seen.append)
    assert [json.loads(part) for part in read_spans(file, spans)] == json.loads(text)
    assert len(seen) == len(json.loads(text))


@pytest.mark.parametrize("text", ['[1, {"a": 2', "[1, 2", "[1, 2 3]", "[1, nonsense]"])
def test_the_rest_of_a_damaged_array_is_one_bad_record(text: str, tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    file.write_text(text, "utf-8")
    *whole, rest = read_spans(file, array_spans(file, lambda element: None))
    assert [json.loads(part) for part in whole] in ([1], [1, 2])
    with pytest.raises(ValueError, match="line 1 column"):
        json.loads(rest)


def test_what_is_no_data_set_is_refused_with_its_name(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"there is nothing at .*nowhere"):
        guess_kind(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"none of the files.*syncd: \*metadata\.json.*--kind"):
        guess_kind(tmp_path)
    for kind, words in {
        "jsonl": "there is no manifest",
        "folder": "has no folders",
        "syncd": r"has no \*metadata\.json",
        "subjects200k": "has no Parquet files",
    }.items():
        with pytest.raises(ValueError, match=words):
            open_source(KINDS[kind](path=str(tmp_path)))
    (tmp_path / "metadata.json").write_text("{}", "utf-8")
    with pytest.raises(ValueError, match=r"metadata\.json should be a JSON array"):
        open_source(KINDS["syncd"](path=str(tmp_path)))
    (tmp_path / "a.parquet").write_bytes(b"PAR1 not")
    with pytest.raises(ValueError, match=r"a\.parquet is not Parquet of Subjects200K's layout"):
        open_source(KINDS["subjects200k"](path=str(tmp_path)))
