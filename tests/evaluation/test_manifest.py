"""Folders of images with a manifest: what is read, matched and refused."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image
from tiny import a_task, photo

from likewise.evaluation.items import match_rows, read_items, real_items
from likewise.evaluation.manifest import (
    MANIFEST,
    ManifestError,
    Row,
    read_manifest,
    write_manifest,
)

TASKS = [
    replace(a_task(f"a {subject} {scene}"), id=f"{subject}-{number:02d}", subject=subject)
    for subject in ("duck", "teapot")
    for number, scene in enumerate(("in the snow", "on the beach"))
]
SNOW = {"file": "0.png", "subject": "duck", "prompt": "a duck in the snow"}


def written(folder: Path, *lines: object) -> Path:
    text = "".join((x if isinstance(x, str) else json.dumps(x)) + "\n" for x in lines)
    (folder / MANIFEST).write_text(text, encoding="utf-8")
    return folder / MANIFEST


def test_rows_survive_writing(tmp_path: Path) -> None:
    rows = [Row(**SNOW), Row(**SNOW, task="duck-00", number=1, seed=2**62)]
    write_manifest(tmp_path / MANIFEST, rows)
    assert read_manifest(tmp_path / MANIFEST) == rows
    first = (tmp_path / MANIFEST).read_text(encoding="utf-8").splitlines()[0]
    assert json.loads(first) == SNOW


def test_images_find_their_tasks_and_are_read_when_asked_for(tmp_path: Path) -> None:
    beach = {**SNOW, "prompt": "a duck on the beach", "task": "duck-01", "seed": 5}
    names = ["0.png", "1.png", "sub/2.png", "3.png"]
    lines = [SNOW, {**SNOW, "file": "1.png"}, {**beach, "file": "sub/2.png"}]
    written(tmp_path, *lines, "", {**SNOW, "file": "3.png", "number": 7})
    (tmp_path / "sub").mkdir()
    for name in names:
        (tmp_path / name).write_bytes(b"not yet")
    items = read_items(tmp_path, TASKS)
    assert [(item.file, item.task.id, item.number, item.seed) for item in items] == [
        ("0.png", "duck-00", 0, None),
        ("1.png", "duck-00", 1, None),
        ("sub/2.png", "duck-01", 0, 5),
        ("3.png", "duck-00", 7, None),
    ]
    Image.new("RGBA", (4, 4), (0, 0, 0, 0)).save(tmp_path / "0.png")
    assert items[0].image().mode == "RGB"
    assert items[0].image().getpixel((0, 0)) == (255, 255, 255)
    with pytest.raises(ValueError, match=r"1\.png is none of JPEG"):
        items[1].image()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"file": "0.png", "subject": "duck", "prompt": "a", "prompt": "b"}', "occurs twice"),
        ('{"file": "0.png", "subject": "duck", "prompt": "\\ud83d"}', "half of a surrogate pair"),
        ({"file_name": "0.png", "subject": "duck", "prompt": "a"}, "did you mean 'file'"),
    ],
)
def test_lines_that_python_would_read_silently_are_refused(line, message, tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=message):
        read_manifest(written(tmp_path, line))


def test_a_byte_order_mark_and_windows_lines_are_fine(tmp_path: Path) -> None:
    file = written(tmp_path, SNOW, {**SNOW, "file": "1.png"})
    rows = read_manifest(file)
    file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes().replace(b"\n", b"\r\n"))
    assert read_manifest(file) == rows


def test_planned_images_need_not_exist_but_foreign_ones_must(tmp_path: Path) -> None:
    written(tmp_path, SNOW, {**SNOW, "file": "1.png"})
    assert len(match_rows(read_manifest(tmp_path / MANIFEST), TASKS, tmp_path)) == 2
    with pytest.raises(ManifestError, match=r"names 0\.png \(and 1 more\), but there is no such"):
        read_items(tmp_path, TASKS)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ({**SNOW, "promt": "x"}, "line 2: promt: unknown key; did you mean 'prompt'?"),
        ({**SNOW, "zoom": 2}, "line 2: zoom: unknown key; known: file, subject, prompt, task,"),
        ({"file": "0.png", "subject": "duck"}, "line 2: prompt: required, but missing"),
        ({**SNOW, "number": "1"}, "line 2: number: should be a valid integer"),
        ({**SNOW, "number": -1}, "line 2: number: should be greater than or equal to 0"),
        ({**SNOW, "file": 7}, "line 2: file: should be a valid string"),
        (["0.png"], "line 2: "),
        ('{"file": ', "line 2: not a JSON object"),
    ],
)
def test_a_wrong_line_is_named_with_its_field(tmp_path: Path, line: object, words: str) -> None:
    file = written(tmp_path, SNOW, line)
    with pytest.raises(ManifestError, match=re.escape(f"{file}, {words}")):
        read_manifest(file)


def test_a_manifest_that_is_absent_or_empty_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(
        ManifestError, match=r"there is no .*manifest\.jsonl.*one, with a line like"
    ):
        read_items(tmp_path, TASKS)
    with pytest.raises(ManifestError, match=r"manifest\.jsonl is empty"):
        read_manifest(written(tmp_path, ""))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"subject": "dukc"}, "subject 'dukc' is not in the benchmark; did you mean 'duck'?"),
        ({"task": "duck-0"}, "task 'duck-0' is not in the benchmark for 'duck'; did you mean"),
        ({"task": "teapot-00"}, "task 'teapot-00' is not in the benchmark for 'duck'"),
        ({"task": "duck-01"}, "for 'duck-01'; did you mean 'a duck on the beach'?"),
        ({"prompt": "a duck in snow"}, "for 'duck'; did you mean 'a duck in the snow'?"),
        ({"number": 0}, "task duck-00 has an image 0 already: 0.png"),
    ],
)
def test_a_row_that_does_not_fit_the_benchmark_is_refused(
    tmp_path: Path, change: dict[str, object], words: str
) -> None:
    rows = [Row(**SNOW), Row.model_validate({**SNOW, "file": "1.png", **change})]
    with pytest.raises(ManifestError, match=re.escape(words)) as error:
        match_rows(rows, TASKS, tmp_path)
    assert f"{MANIFEST}, image 2 (1.png)" in str(error.value)


def test_a_prompt_of_several_tasks_needs_their_id(tmp_path: Path) -> None:
    tasks = [*TASKS, replace(TASKS[0], id="duck-07")]
    with pytest.raises(ManifestError, match="fit several tasks: say which, duck-00, duck-07"):
        match_rows([Row(**SNOW)], tasks, tmp_path)
    assert match_rows([Row(**SNOW, task="duck-07")], tasks, tmp_path)[0].task is tasks[-1]


def test_real_photos_of_each_subject_are_items_of_their_own() -> None:
    others = (photo(8, 8, 1), photo(8, 8, 2))
    tasks = [replace(task, other_photos=others[: 1 + (task.subject == "duck")]) for task in TASKS]
    items = real_items(tasks)
    assert [(item.file, item.task.id, item.number, item.photo) for item in items] == [
        ("duck/00", "duck-real", 0, 0),
        ("duck/01", "duck-real", 1, 1),
        ("duck/02", "duck-real", 2, 2),
        ("teapot/00", "teapot-real", 0, 0),
        ("teapot/01", "teapot-real", 1, 1),
    ]
    for item in items:
        assert item.photo is not None and item.image() is item.task.photos[item.photo]
    assert items[1].image() is others[0] and {item.task.prompt for item in items} == {""}
