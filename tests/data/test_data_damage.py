"""Every sort of damage in every layout: `data check` names each, and no other row."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import photosets
import pyarrow.parquet as pq
import pytest
from PIL import Image

from likewise.builders.datasets import check_source, guess_kind, open_source
from likewise.config.data import KINDS
from likewise.config.loading import load_recipe
from likewise.data.checking import Report
from likewise.data.sources.entries import Problem
from likewise.data.sources.opening import open_row
from likewise.types import Task

POLICY = load_recipe("stickers").policy


def check(path: Path, decode: bool = False) -> Report:
    source = open_source(KINDS[guess_kind(path)](path=str(path)))
    return check_source(source, decode)


def noise(file: Path, size: tuple[int, int] = (64, 48)) -> bytes:
    """An image of many bytes, at `file` too."""
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)).save(file)
    return file.read_bytes()


def truncate(file: Path) -> None:
    data = noise(file)
    file.write_bytes(data[: len(data) // 2])


def flip(file: Path) -> None:
    """Damage in the middle, with an intact end."""
    data = noise(file)
    file.write_bytes(data[:1000] + bytes(200) + data[1200:])


def claim(file: Path, width: int = 30_000, height: int = 30_000) -> None:
    """A decompression bomb: a small PNG whose header promises 900 megapixels."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)

    def chunk(name: bytes, data: bytes) -> bytes:
        crc = struct.pack(">I", zlib.crc32(name + data))
        return struct.pack(">I", len(data)) + name + data + crc

    body = chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    file.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + body)


IMAGES: dict[str, tuple[Callable[[Path], Any], str]] = {
    "missing": (Path.unlink, "missing image"),
    "a folder": (lambda file: (file.unlink(), file.mkdir()), "missing image"),
    "truncated": (truncate, "truncated image"),
    "empty": (lambda file: file.write_bytes(b""), "truncated image"),
    "text": (lambda file: file.write_text("<html>not found</html>"), "not an image"),
    "eps": (lambda file: file.write_text("%!PS-Adobe-3.0 EPSF-3.0\n"), "not an image"),
    "huge": (claim, "huge image"),
    "large": (lambda file: claim(file, 10_000, 10_000), "huge image"),
    "tiny": (lambda file: Image.new("RGB", (40, 8)).save(file), "tiny image"),
    "float": (lambda file: Image.new("F", (40, 30)).save(file, "TIFF"), "wrong mode"),
}


@pytest.mark.parametrize("name", IMAGES)
def test_a_damaged_image_is_named_when_checked_and_opened(name: str, tmp_path: Path) -> None:
    damage, what = IMAGES[name]
    file = photosets.jsonl(tmp_path, rows=4, subjects=4)
    damage(tmp_path / "photos" / "2-0.png")
    report = check(file)
    assert (report.rows, dict(report.problems.counts)) == (4, {what: 1})
    (problem,) = report.problems.first[what]
    assert problem.row == 2 and problem.where == "tasks.jsonl, line 3"
    assert "photos/2-0.png" in problem.detail
    source = open_source(KINDS["jsonl"](path=str(file)))
    opened = [open_row(source, row, POLICY) for row in range(4)]
    assert isinstance(opened[2], Problem) and opened[2].what == what
    assert all(isinstance(task, Task) for row, task in enumerate(opened) if row != 2)


def test_damage_between_intact_ends_takes_decoding(tmp_path: Path) -> None:
    file = photosets.jsonl(tmp_path, rows=4, subjects=4)
    flip(tmp_path / "photos" / "1-1.png")  # a held-out photo counts too
    assert check(file).bad == 0
    assert check(file, decode=True).problems.counts == {"truncated image": 1}


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "gif", "bmp", "tiff"])
def test_intact_files_of_every_format_pass_and_halves_do_not(suffix: str, tmp_path: Path) -> None:
    noise(tmp_path / f"a.{suffix}")
    file = tmp_path / "a.jsonl"
    photosets.write_lines(file, [{"id": "1", "prompt": "a", "references": [f"a.{suffix}"]}])
    assert check(file).bad == 0 == check(file, decode=True).bad
    data = (tmp_path / f"a.{suffix}").read_bytes()
    (tmp_path / f"a.{suffix}").write_bytes(data + b"appended by a camera")
    assert check(file).bad == 0
    (tmp_path / f"a.{suffix}").write_bytes(data[: len(data) // 2])
    assert set(check(file).problems.counts) <= {"truncated image", "not an image"}
    assert check(file).bad == 1


LINES: dict[str, tuple[dict[str, Any] | str, str, str]] = {
    "outside": ({"references": ["../secret.png"]}, "outside the folder", "../secret.png"),
    "absolute": ({"references": ["/etc/secret.png"]}, "outside the folder", "/etc/secret.png"),
    "mask outside": ({"masks": ["a/../../b.png"]}, "outside the folder", "b.png"),
    "held-out missing": ({"heldout_references": ["no.png"]}, "missing image", "no.png"),
    "mask missing": ({"masks": ["no.png"]}, "missing image", "no.png"),
    "duplicate": ({"id": "row-0"}, "duplicate id", "row-0"),
    "empty prompt": ({"prompt": "  "}, "empty prompt", ""),
    "bad JSON": ('{"id": "row-2", ', "bad JSON", "line 1"),
    "not UTF-8": ("\udcff\udcfe", "bad JSON", ""),
    "deep": ("[" * 100_000, "bad JSON", ""),
    "key twice": (
        '{"id": "a", "prompt": "a", "references": ["a.png"], "prompt": "b"}',
        "bad JSON",
        "the key 'prompt' occurs twice",
    ),
    "half a character": ({"prompt": "a \ud83d b"}, "bad JSON", "half of a surrogate pair"),
    "alias": (
        {"class_name": "duck"},
        "bad field",
        "class_name: unknown key; did you mean 'class'?",
    ),
    "file_name": ({"file_name": "a.png"}, "bad field", "did you mean 'references'?"),
    "caption": ({"caption": "a"}, "bad field", "did you mean 'prompt'?"),
    "many references": ({"references": ["photos/a.png"] * 100_000}, "huge record", "2 MiB for"),
    "some references": ({"references": ["a.png"] * 1000}, "bad field", "at most 64 items"),
    "long": ({"prompt": "a" * 20_000_000}, "huge record", "19 MiB for one task"),
    "many keys": ({str(n): 1 for n in range(50_000)}, "bad field", "and 49,"),
    "no object": ("[1, 2]", "bad field", ""),
    "wrong type": ({"references": "a.png"}, "bad field", "references"),
    "number": ({"prompt": 7}, "bad field", "prompt"),
    "no references": ({"references": []}, "bad field", "references"),
    "unknown field": ({"promt": "a"}, "bad field", "promt: unknown key"),
    "unknown kind": ({"kind": "sceen"}, "bad field", "did you mean 'scene'"),
    "complexity": ({"complexity": 9}, "bad field", "complexity"),
    "too many masks": ({"masks": [None, None]}, "bad field", "masks"),
    "null byte": ({"references": ["a\0.png"]}, "missing image", ""),
}


@pytest.mark.parametrize("name", LINES)
def test_a_damaged_line_is_named(name: str, tmp_path: Path) -> None:
    change, what, words = LINES[name]
    file = photosets.jsonl(tmp_path, rows=5)
    rows = photosets.lines_of(file)
    rows[2] = change if isinstance(change, str) else {**rows[2], **change}
    text = "".join(f"{row if isinstance(row, str) else json.dumps(row)}\n" for row in rows)
    file.write_bytes(text.encode("utf-8", "surrogateescape"))
    report = check(file)
    assert dict(report.problems.counts) == {what: 1}
    (problem,) = report.problems.first[what]
    assert problem.where == "tasks.jsonl, line 3" and words in problem.detail


@pytest.mark.parametrize(
    ("mask", "what"),
    [
        (Image.new("L", (30, 40)), "mask does not fit"),
        (Image.new("RGBA", (40, 30)), "wrong mode"),
    ],
)
def test_a_mask_that_is_none_is_named(mask: Image.Image, what: str, tmp_path: Path) -> None:
    file = photosets.jsonl(tmp_path, rows=3)
    mask.save(tmp_path / "mask.png")
    rows = photosets.lines_of(file)
    photosets.write_lines(file, [rows[0], {**rows[1], "masks": ["mask.png"]}, rows[2]])
    assert check(file).problems.counts == {what: 1}
    opened = open_row(open_source(KINDS["jsonl"](path=str(file))), 1, POLICY)
    assert isinstance(opened, Problem) and opened.what == what


def test_damage_in_a_folder_of_subjects(tmp_path: Path) -> None:
    root = photosets.folder(tmp_path)
    assert check(root).bad == 0
    truncate(root / "dog" / "1.jpg")  # in all three of its tasks
    (root / "empty").mkdir()
    (root / "red_teapot2" / "prompts.txt").write_text("a {0} here\nfine\n", "utf-8")
    report = check(root)
    assert report.rows == 3 + 4 + 1
    assert report.problems.counts == {
        "truncated image": 3,
        "missing image": 1,
        "bad field": 1,
    }
    assert report.problems.first["bad field"][0].where == "red_teapot2, own prompts.txt line 1"
    (root / "prompts.txt").unlink()
    (root / "dog" / "prompts.txt").unlink()
    assert check(root).problems.counts["empty prompt"] == 1
    (root / "prompts.txt").write_bytes(b"a {} \xff")
    with pytest.raises(ValueError, match=r"prompts\.txt is not UTF-8"):
        check(root)


def test_damage_in_syncd(tmp_path: Path) -> None:
    root = photosets.syncd(tmp_path, sets=7)
    records = json.loads((root / "metadata.json").read_text("utf-8"))
    assert check(root).bad == 0
    truncate(root / "0" / "a.png")  # in all three tasks of its set: as a reference, or held out
    records[1]["prompts"] = ["one"]
    records[2]["filenames"] = ["2/a.png"]
    records[3]["filenames"][1] = "../a.png"
    records[4]["prompts"][2] = ""
    (root / "5" / "c.png").unlink()
    photosets.save_mask(root / "6" / "masks" / "a.jpg", (6, 8))
    (root / "metadata.json").write_text(json.dumps(records), "utf-8")
    assert check(root).problems.counts == {
        "truncated image": 2,
        "bad field": 3 + 1,
        "outside the folder": 2,
        "empty prompt": 1,
        "missing image": 2,
        "mask does not fit": 1,
    }
    text = json.dumps(records[:1] + records[:1] + records[4:5])
    (root / "metadata.json").write_text(text[:-40], "utf-8")
    assert check(root).problems.counts == {
        "truncated image": 2,
        "duplicate id": 3,
        "bad JSON": 1,
    }


def test_damage_in_subjects200k(tmp_path: Path) -> None:
    rows = [photosets.pair(number) for number in range(9)]
    rows[0]["image"]["bytes"] = rows[0]["image"]["bytes"][:60]
    rows[1]["image"]["bytes"] = b"<html>"
    rows[2]["image"]["bytes"] = None
    rows[3]["image"] = photosets.pair(3, side=8)["image"]
    rows[4]["description"]["description_1"] = " "
    rows[5]["description"]["description_valid"] = False
    rows[6]["quality_assessment"] = None
    rows[7]["image"] = None
    square = tmp_path / "square.png"
    photosets.save(square, 0, (48, 48))
    rows[8]["image"]["bytes"] = square.read_bytes()
    photosets.write_pairs(tmp_path / "a.parquet", rows)
    report = check(tmp_path / "a.parquet")
    assert report.rows == 2 * 7
    assert report.notes == ("2 pairs are left out: rated below 5, or not described",)
    assert report.problems.counts == {
        "truncated image": 2,
        "not an image": 2,
        "missing image": 4,
        "not a pair": 4,
        "empty prompt": 1,
    }
    assert report.problems.first["empty prompt"][0].where == "a.parquet, group 2, row 0, right"
    column = pq.ParquetFile(tmp_path / "a.parquet").metadata.row_group(0).column(0)  # images
    data = bytearray((tmp_path / "a.parquet").read_bytes())
    start = column.dictionary_page_offset or column.data_page_offset
    data[start : start + 16] = bytes(16)
    (tmp_path / "a.parquet").write_bytes(data)
    assert check(tmp_path / "a.parquet").problems.counts["unreadable"] == 4


def test_examples_are_the_first_and_every_row_counts_once(tmp_path: Path) -> None:
    file = photosets.jsonl(tmp_path, rows=1300, subjects=5)
    rows = photosets.lines_of(file)
    for row in rows[::13]:
        row["prompt"] = ""
    photosets.write_lines(file, rows)
    truncate(tmp_path / "photos" / "3-0.png")
    source = open_source(KINDS["jsonl"](path=str(file)))
    one, three = (check_source(source, processes=number) for number in (1, 3))
    assert one == three
    assert one.problems.counts == {"empty prompt": 100, "truncated image": 240}
    assert [problem.row for problem in one.problems.first["empty prompt"]] == [0, 13, 26]
    assert [problem.row for problem in one.problems.first["truncated image"]] == [3, 8, 18]


def test_every_documented_format_is_a_photo_of_a_folder(tmp_path: Path) -> None:
    root = photosets.folder(tmp_path)
    for index, suffix in enumerate(["bmp", "tif", "tiff", "gif", "jfif", "WEBP", "JPEG"]):
        photosets.save(root / "cat" / f"{index}.{suffix}", index)
    source = open_source(KINDS["folder"](path=str(root)))
    names = {entry.subject: len(entry.images) for entry in source.entries(0, len(source), False)}
    assert names["cat"] == 7
    assert check(root).bad == 0 and not source.notes


def test_litter_is_skipped_and_other_files_are_reported(tmp_path: Path) -> None:
    root = photosets.folder(tmp_path)
    good = check(root)
    junk = b"\x00\x05\x16\x07" + bytes(80)
    for name in ("dog/._0.jpg", "dog/.DS_Store", "dog/Thumbs.db", "._dog", ".hidden/0.png"):
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_bytes(junk)
    (root / "__MACOSX" / "dog").mkdir(parents=True)
    (root / "__MACOSX" / "dog" / "._0.jpg").write_bytes(junk)
    (root / "red_teapot2" / "masks" / "._0.png").write_bytes(junk)
    assert check(root) == good
    (root / "dog" / "2.heic").write_bytes(junk)
    (root / "notes.md").write_bytes(b"#")
    report = check(root)
    assert (report.rows, report.bad) == (good.rows, 0)
    (note,) = report.notes
    assert note.startswith("2 files are left out") and note.endswith("notes.md, dog/2.heic")


def test_litter_in_other_layouts_is_skipped(tmp_path: Path) -> None:
    junk = b"\x00\x05\x16\x07" + bytes(80)
    for layout in (photosets.syncd, photosets.subjects200k):
        root = tmp_path / layout.__name__
        root.mkdir()
        path = layout(root)
        good = check(path)
        (root / "._metadata.json").write_bytes(junk)
        for folder in (root, root / "data"):
            folder.mkdir(exist_ok=True)
            (folder / "._train.parquet").write_bytes(junk)
        assert check(path) == good


def test_dead_links_are_missing_images_not_absent_ones(tmp_path: Path) -> None:
    root = photosets.folder(tmp_path)
    (root / "dog" / "0.jpg").unlink()
    (root / "dog" / "0.jpg").symlink_to("../cache/blob")
    (root / "cat").symlink_to("gone")
    report = check(root)
    assert report.problems.counts == {"missing image": 4}
    details = [problem.detail for problem in report.problems.first["missing image"]]
    assert "a link to gone, which is not there" in details[0]
    assert details[1] == "no file dog/0.jpg (a link to ../cache/blob, which is not there)"
    (root / "prompts.txt").unlink()
    (root / "prompts.txt").symlink_to("gone.txt")
    with pytest.raises(ValueError, match=r"no .*prompts\.txt \(a link to gone\.txt"):
        check(root)


def test_photos_without_a_folder_around_them_are_told_apart(tmp_path: Path) -> None:
    photosets.save(tmp_path / "0.png", 0)
    with pytest.raises(ValueError, match="holds photos itself: give the folder around it"):
        open_source(KINDS["folder"](path=str(tmp_path)))


def test_folders_in_the_layout_of_sd_scripts_are_noted(tmp_path: Path) -> None:
    """Repeats before the class, and a caption beside each photo."""
    photosets.save(tmp_path / "10_dog" / "0.png", 0)
    (tmp_path / "10_dog" / "0.txt").write_text("a photo of a dog", "utf-8")
    (tmp_path / "10_dog" / ".ipynb_checkpoints").mkdir()
    (tmp_path / "prompts.txt").write_text("a {} asleep\n", "utf-8")
    report = check(tmp_path)
    assert (report.rows, report.bad) == (1, 0)
    captions, repeats = report.notes
    assert captions.endswith("10_dog/0.txt")
    assert "the class of 10_dog begins with a number, as in '10 dog'" in repeats
    (tmp_path / "10_dog" / "class.txt").write_text("dog", "utf-8")
    assert len(check(tmp_path).notes) == 1
