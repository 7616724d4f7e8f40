"""DreamBench from a folder: what is read, and how it refuses a damaged one."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from likewise.builders.benchmarks import load_benchmark
from likewise.data.sources.dreambench import dreambench_tasks, kind_and_complexity
from likewise.data.sources.dreambench_files import OBJECT, fill
from likewise.data.subsets import spread
from likewise.types import KINDS

REAL = Path(__file__).parents[3] / "shared" / "dreambench"
COLOURS = {"00": (250, 0, 0), "01": (0, 250, 0), "02": (0, 0, 250)}

SHEET = """Classes

subject_name,class
mug,mug
cat2,cat

Prompts

Object Prompts

prompt_list = [
'a {0} {1} in the jungle'.format(unique_token, class_token),
'a red {0} {1}'.format(unique_token, class_token)
]

Live Subject Prompts

prompt_list = [
'a {0} {1} in the jungle'.format(unique_token, class_token),
'a {0} {1} wearing a red hat'.format(unique_token, class_token),
'a {0} {1} in a chef outfit'.format(unique_token, class_token)
]
"""


def save_photo(file: Path, colour: tuple[int, ...]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGBA" if len(colour) == 4 else "RGB", (20, 10), colour).save(file)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two subjects of two and three photos; the cat is conditioned by its middle one."""
    (tmp_path / "prompts_and_classes.txt").write_text(SHEET, encoding="utf-8")
    for name in ("00", "01"):
        save_photo(tmp_path / "images" / "mug" / f"{name}.png", COLOURS[name])
    for name, colour in COLOURS.items():
        save_photo(tmp_path / "images" / "cat2" / f"{name}.png", colour)
    references = {"reference": {"cat2": "01.png"}}
    (tmp_path / "single_reference.json").write_text(json.dumps(references), encoding="utf-8")
    return tmp_path


def colour_of(image: Image.Image) -> tuple[int, ...]:
    assert image.mode == "RGB"
    return tuple(np.asarray(image).reshape(-1, 3).mean(axis=0).round().astype(int).tolist())


def test_a_task_per_subject_and_prompt(folder: Path) -> None:
    tasks = dreambench_tasks(folder)
    assert [
        (task.id, task.prompt, task.category, task.kind, task.complexity) for task in tasks
    ] == [
        ("mug-00", "a mug in the jungle", "object", "scene", 1),
        ("mug-01", "a red mug", "object", "property", 1),
        ("cat2-00", "a cat in the jungle", "live", "scene", 1),
        ("cat2-01", "a cat wearing a red hat", "live", "combination", 2),
        ("cat2-02", "a cat in a chef outfit", "live", "combination", 2),
    ]
    assert {task.class_name for task in tasks if task.subject == "cat2"} == {"cat"}


def test_the_named_photo_conditions_and_others_keep_their_order(folder: Path) -> None:
    mug, _, cat, *cats = dreambench_tasks(folder)
    assert colour_of(cat.reference) == COLOURS["01"]
    assert [colour_of(photo) for photo in cat.other_photos] == [COLOURS["00"], COLOURS["02"]]
    assert colour_of(mug.reference) == COLOURS["00"]  # not named: the first
    assert all(task.reference is cat.reference for task in cats)
    assert all(task.other_photos[0] is cat.other_photos[0] for task in cats)


def test_the_layout_of_the_repository_is_read_too(folder: Path, tmp_path_factory) -> None:
    wanted = [(task.id, task.prompt) for task in dreambench_tasks(folder)]
    (folder / "single_reference.json").unlink()
    clone = tmp_path_factory.mktemp("clone")
    (folder / "images").rename(clone / "dataset")
    (folder / "prompts_and_classes.txt").rename(clone / "dataset" / "prompts_and_classes.txt")
    for given in (clone, clone / "dataset"):
        tasks = dreambench_tasks(given)
        assert [(task.id, task.prompt) for task in tasks] == wanted
        assert colour_of(tasks[2].reference) == COLOURS["00"]


def test_photos_are_upright_and_on_white(folder: Path) -> None:
    sideways = Image.new("RGB", (20, 10), "black")
    exif = sideways.getexif()
    exif[0x0112] = 6  # a camera held on its side
    sideways.save(folder / "images" / "mug" / "00.jpg", exif=exif)
    save_photo(folder / "images" / "mug" / "02.png", (0, 0, 0, 0))
    first = dreambench_tasks(folder)[0]
    assert first.reference.size == (10, 20)
    assert colour_of(first.other_photos[-1]) == (255, 255, 255)


@pytest.mark.parametrize("template", ["a {0} {1} in {2}", "a dog", "a {0} {1} in"])
def test_templates_are_filled_with_the_class_alone(folder: Path, template: str) -> None:
    assert fill("a {0} {1} in the snow", "stuffed animal") == "a stuffed animal in the snow"
    assert fill("a {} {}", "dog") == fill("a {}", "dog") == fill("a {0}", "dog") == "a dog"
    file = folder / "prompts_and_classes.txt"
    file.write_text(SHEET.replace("a red {0} {1}", template), encoding="utf-8")
    if template.count("{") == 2:
        assert dreambench_tasks(folder)[1].prompt == "a mug in"
        return
    with pytest.raises(ValueError, match=r"prompts_and_classes\.txt.*the class"):
        dreambench_tasks(folder)


@pytest.mark.parametrize(
    ("template", "kind", "complexity"),
    [
        ("a cube shaped {0} {1}", "property", 1),
        ("a {0} {1} with a blue house in the background", "scene", 1),
        ("a {0} {1} floating in an ocean of milk", "scene", 1),
        ("a {0} {1} on top of a purple rug in a forest", "scene", 2),
        ("a {0} {1} with a tree and autumn leaves in the background", "scene", 2),
        ("a {0} {1} in a purple wizard outfit", "combination", 2),
        ("a {0} {1} wearing a black top hat and a monocle", "combination", 3),
    ],
)
def test_kinds_of_prompts(template: str, kind: str, complexity: int) -> None:
    assert kind_and_complexity(template) == (kind, complexity) and kind in KINDS


def test_a_photo_that_cannot_be_read_is_named(folder: Path) -> None:
    photo = folder / "images" / "cat2" / "02.png"
    Image.effect_noise((64, 64), 50).save(photo)
    photo.write_bytes(photo.read_bytes()[:1000])
    with pytest.raises(ValueError, match=r"truncated image: .*cat2/02\.png"):
        dreambench_tasks(folder)
    photo.write_bytes(b"")
    with pytest.raises(ValueError, match=r"cat2/02\.png"):
        dreambench_tasks(folder)


def test_what_is_missing_is_named(folder: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no folder .*nowhere.*google/dreambooth"):
        dreambench_tasks(folder / "nowhere")
    with pytest.raises(FileNotFoundError, match=r"no prompts_and_classes\.txt.*google/dreambooth"):
        dreambench_tasks(folder / "images")
    (folder / "images" / "mug").rename(folder / "elsewhere")
    with pytest.raises(FileNotFoundError, match=r"'mug'.*has no folder .*images/mug"):
        dreambench_tasks(folder)
    (folder / "images" / "mug").mkdir()
    (folder / "images" / "mug" / "notes.txt").touch()
    with pytest.raises(FileNotFoundError, match=r"'mug' has no photos"):
        dreambench_tasks(folder)


@pytest.mark.parametrize(
    ("old", "new", "missing"),
    [
        ("Live Subject Prompts", "Prompts of animals", "Live Subject Prompts"),
        ("Classes\n", "", "Classes"),
        ("mug,mug\ncat2,cat\n", "", "Classes"),
        ("'a {0} {1} in the jungle'", "", OBJECT),
    ],
)
def test_a_prompts_file_without_a_list_is_refused(
    folder: Path, old: str, new: str, missing: str
) -> None:
    text = SHEET.replace("'a red {0} {1}'", "") if missing == OBJECT else SHEET
    assert old in text
    (folder / "prompts_and_classes.txt").write_text(text.replace(old, new), encoding="utf-8")
    with pytest.raises(ValueError, match=rf"prompts_and_classes\.txt has no list '{missing}'"):
        dreambench_tasks(folder)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"reference": {"cat2": "07.png"}}', r"single_reference\.json names .*cat2/07\.png"),
        ('{"cat2": "01.png"}', r"single_reference\.json should have"),
        ("{", r"single_reference\.json should have"),
        ('{"reference": ["01.png"]}', r"single_reference\.json should have"),
    ],
)
def test_a_wrong_list_of_references_is_refused(folder: Path, text: str, words: str) -> None:
    (folder / "single_reference.json").write_text(text, encoding="utf-8")
    with pytest.raises((ValueError, FileNotFoundError), match=words):
        dreambench_tasks(folder)


def test_a_benchmark_is_asked_for_by_name_or_folder(folder: Path) -> None:
    assert len(load_benchmark("sticker-bench", 30)) == 30
    assert [task.id for task in load_benchmark(folder)] == [t.id for t in dreambench_tasks(folder)]
    part = load_benchmark(str(folder), 4)
    assert len({task.id for task in part}) == 4 and {t.subject for t in part} == {"mug", "cat2"}
    for absent in ("dreambench", folder / "nowhere"):
        with pytest.raises(FileNotFoundError, match=r"no folder .*\n.*git clone.*/dreambooth"):
            load_benchmark(absent)
    with pytest.raises(ValueError, match=r"'stickers-bench'; did you mean 'sticker-bench'\?"):
        load_benchmark("stickers-bench")
    with pytest.raises(ValueError, match="has no tasks"):
        load_benchmark(folder, 0)


@pytest.mark.parametrize("size", [0, 1, 5, 23, 46, 750])
def test_a_part_of_any_benchmark_is_spread_and_repeats_nothing(folder: Path, size: int) -> None:
    task = dreambench_tasks(folder)[0]
    tasks = [replace(task, id=str(number)) for number in range(size)]
    ids = [int(task.id) for task in spread(tasks, size + 1)]
    assert sorted(ids) == list(range(size))
    assert [int(task.id) for task in spread(tasks, 3)] == ids[:3]
    if size == 750:  # 30 × 25: every subject once, and every prompt at least once
        assert len({number // 25 for number in ids[:33]}) == 30
        assert len({number % 25 for number in ids[:25]}) == 25


@pytest.mark.skipif(not REAL.is_dir(), reason="needs DreamBench in shared/dreambench")
def test_dreambench_itself() -> None:
    tasks = dreambench_tasks(REAL)
    subjects = {task.subject: task for task in tasks}
    assert len(tasks) == 750 and len({task.id for task in tasks}) == 750
    assert Counter(task.subject for task in tasks) == dict.fromkeys(subjects, 25)
    assert Counter(task.category for task in subjects.values()) == {"live": 9, "object": 21}
    assert sum(1 + len(task.other_photos) for task in subjects.values()) == 158
    assert Counter((task.category, task.kind) for task in tasks) == {
        ("object", "scene"): 21 * 20,
        ("object", "property"): 21 * 5,
        ("live", "scene"): 9 * 10,
        ("live", "combination"): 9 * 10,
        ("live", "property"): 9 * 5,
    }
    assert {task.complexity for task in tasks} == {1, 2, 3}
    assert not [task.prompt for task in tasks if "{" in task.prompt or "  " in task.prompt]
    assert len({(task.subject, task.prompt) for task in tasks}) == 750
    with Image.open(REAL / "images" / "backpack" / "02.jpg") as wanted:
        assert subjects["backpack"].reference.tobytes() == wanted.convert("RGB").tobytes()
