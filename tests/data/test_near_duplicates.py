"""Images that stand under two names: what is held out together, and what `data check` warns of."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import photosets
import pytest
from photosets import compressed, scene

from likewise.builders.datasets import check_source, open_source
from likewise.config.data import KINDS
from likewise.data import checking
from likewise.data.near_duplicates import BANDS, Fingerprinted, find_near_duplicates
from likewise.data.sources.entries import Entry, Source
from likewise.data.sources.index import index_rows
from likewise.fingerprints import NEAR, fingerprint


def source(kind: str, path: Path) -> Source:
    return open_source(KINDS[kind](path=str(path)))


def image(family: str, mark: str) -> Fingerprinted:
    return Fingerprinted(family, f"subject of {family}", "a.png", mark)


def families(source: Source) -> list[str]:
    entries = source.entries(0, len(source), content=False)
    return [entry.family or entry.subject for entry in entries if isinstance(entry, Entry)]


def test_sets_of_one_object_are_held_out_together(tmp_path: Path) -> None:
    file = photosets.syncd(tmp_path, sets=40) / "metadata.json"
    records = json.loads(file.read_text())
    for number, record in enumerate(records):
        record["objaverse_id"] = number % 4 if number < 36 else None  # a number, or a text
    file.write_text(json.dumps(records))
    found = source("syncd", tmp_path)
    index = index_rows(found, held_out=3)
    named = np.array(families(found))
    assert len(index.training) and len(index.held_out)
    assert not {*named[index.training]} & {*named[index.held_out]}
    assert len({*named}) == 4 + 4  # without an id, a set is a family of its own


def test_items_are_one_family_however_they_are_written(tmp_path: Path) -> None:
    rows = [photosets.pair(number) for number in range(3)]
    for row, item in zip(rows, ("Coffee  Mug", "coffee mug ", "teapot"), strict=True):
        row["description"]["item"] = item
    (tmp_path / "data").mkdir()
    photosets.write_pairs(tmp_path / "data" / "train-0.parquet", rows)
    assert families(source("subjects200k", tmp_path)) == ["coffee mug"] * 4 + ["teapot"] * 2


@pytest.mark.parametrize("processes", [1, 2])
def test_check_names_images_that_two_subjects_share(
    tmp_path: Path, processes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checking, "CHUNK", 4)
    for number, subject in enumerate(("mug", "cup", "dog")):
        (tmp_path / subject).mkdir()
        for photo in range(2):
            scene(10 * number + photo).save(tmp_path / subject / f"{photo}.png")
    compressed(scene(1), 80).save(tmp_path / "cup" / "9.jpg")  # as mug/1.png
    scene(0).save(tmp_path / "mug" / "again.png")  # of one subject: no leak
    (tmp_path / "prompts.txt").write_text("a {} in the snow\na red {}")
    found = source("folder", tmp_path)
    report = check_source(found, decode=True, processes=processes)
    assert report.bad == 0
    assert [{str(one), str(other)} for one, other in report.near_duplicates] == [
        {"cup (cup/9.jpg)", "mug (mug/1.png)"}
    ]
    assert check_source(found, decode=False).near_duplicates == []


def test_all_near_pairs_are_found_and_no_other() -> None:
    rng = np.random.default_rng(0)
    hashes = rng.integers(0, 256, (300, 32), dtype=np.uint8)
    wanted = set()
    for row in range(0, 60, 2):  # a copy with NEAR bits flipped, one more for every second
        bits = np.unpackbits(hashes[row])
        flipped = NEAR + (row // 2) % 2
        bits[rng.permutation(256)[:flipped]] ^= 1
        hashes[row + 1] = np.packbits(bits)
        if flipped == NEAR:
            wanted.add((f"{row}", f"{row + 1}"))
    images = [image(str(n), f"{n:032x}" + one.tobytes().hex()) for n, one in enumerate(hashes)]
    assert {(one.family, other.family) for one, other in find_near_duplicates(images)} == wanted
    assert BANDS == NEAR + 1 and len(wanted) == 15


def test_one_pair_stands_for_two_families_and_none_for_one() -> None:
    marks = [fingerprint(scene(seed)) for seed in range(2)]
    images = [image(family, mark) for family in ("a", "b", "a") for mark in marks]
    assert [(one.family, other.family) for one, other in find_near_duplicates(images)] == [
        ("a", "b")
    ]
    assert find_near_duplicates([image("a", mark) for mark in marks * 2]) == []
    assert find_near_duplicates([]) == []
