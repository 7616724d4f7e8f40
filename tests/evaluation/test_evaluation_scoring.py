"""Scoring apart from generation: columns, parts, and what a killed call leaves behind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from tiny import a_task
from torch import Tensor

from likewise.analysis.spoilt_counts import count_spoilt
from likewise.evaluation.batches import Share
from likewise.evaluation.image_scoring import (
    PARTS,
    SCORES,
    Scorers,
    join_parts,
    score_missing,
    unscored,
)
from likewise.evaluation.items import Item, real_items
from likewise.evaluation.measures import Measures
from likewise.protocols import Reward
from likewise.types import Task

SIZE = 4  # of a batch
COLOURS = ("red", "lime", "blue")


class Colour:
    """Embeds an image as the colour of its first pixel; counts the images that it has seen."""

    def __init__(self) -> None:
        self.seen = 0

    def embed(self, images: Sequence[Image.Image]) -> Tensor:
        self.seen += len(images)
        rows = [np.asarray(image, dtype=np.float32)[0, 0] / 255 for image in images]
        return torch.tensor(np.stack(rows))


class Redness:
    """Red of the first pixel; nothing to say about tasks of the subject `mute`."""

    def score(self, images: Sequence[Image.Image], tasks: Sequence[Task]) -> tuple[Tensor, Tensor]:
        assert images, "asked about nothing"
        values = [float(np.asarray(image)[0, 0, 0]) / 255 for image in images]
        return torch.tensor(values), torch.tensor([task.subject != "mute" for task in tasks])


class Broken:
    def score(self, images: Sequence[Image.Image], tasks: Sequence[Task]) -> tuple[Tensor, Tensor]:
        raise RuntimeError("out of order")


def scorers(rewards: Mapping[str, Reward] | None = None) -> Scorers:
    found = {"reward/red": Redness()} if rewards is None else rewards
    return Scorers(found, Measures({"dino": Colour()}, {}))


def almost_plain(colour: str) -> Image.Image:
    """Of one colour but for the last pixel, as an image of one colour throughout has no scores."""
    image = Image.new("RGB", (8, 8), colour)
    image.putpixel((7, 7), (255, 255, 255))
    return image


def task(subject: str) -> Task:
    own = replace(a_task(f"a {subject}", almost_plain("red")), id=f"{subject}-00", subject=subject)
    return replace(own, other_photos=(almost_plain("lime"),), complexity=2)


def drawn(folder: Path, numbers: int = 3) -> list[Item]:
    """Three colours, of two tasks."""
    folder.mkdir(exist_ok=True)
    items = []
    for subject in ("duck", "mute"):
        for number in range(numbers):
            name = f"{subject}-{number}.png"
            almost_plain(COLOURS[number]).save(folder / name)
            items.append(Item(name, task(subject), number, folder))
    return items


def scored(folder: Path, items: Sequence[Item]) -> pa.Table:
    score_missing(scorers(), folder, items, SIZE, Share())
    return join_parts(folder, items, SIZE)


def test_a_row_per_image_in_the_order_of_the_manifest(tmp_path: Path) -> None:
    table = scored(tmp_path, drawn(tmp_path)).to_pydict()
    assert table["file"][:4] == ["duck-0.png", "duck-1.png", "duck-2.png", "mute-0.png"]
    assert table["task"][2:4] == ["duck-00", "mute-00"] and table["number"][:4] == [0, 1, 2, 0]
    labels = [table[name][0] for name in ("subject", "category", "class_name", "kind", "prompt")]
    assert labels == ["duck", "bird", "duck", "scene", "a duck"] and table["complexity"][0] == 2
    assert table["reward/red"] == [1, 0, 0, None, None, None]
    assert table["dino/conditioning"] == [1, 0, 0] * 2
    assert table["dino/held-out"] == [0, 1, 0] * 2
    assert table["dino/photos"] == [[1, 0], [0, 1], [0, 0]] * 2
    assert table["dino/diversity"] == [1, 1, 1] * 2  # batches of 4 cut through the second task
    assert table["background"] == [None] * 6
    assert not any(name.endswith("embedding") for name in table)


def test_one_image_per_task_has_no_diversity(tmp_path: Path) -> None:
    assert scored(tmp_path, drawn(tmp_path, 1))["dino/diversity"].to_pylist() == [None, None]


def test_shares_join_to_the_same_file(tmp_path: Path) -> None:
    alone, shared = tmp_path / "alone", tmp_path / "shared"
    scored(alone, drawn(alone))
    items = drawn(shared)
    for index in (1, 0):
        score_missing(scorers(), shared, items, SIZE, Share(index, 2))
    join_parts(shared, items, SIZE)
    assert (alone / SCORES).read_bytes() == (shared / SCORES).read_bytes()


def test_an_interrupted_call_keeps_its_batches_and_repeats_none(tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    scored(whole, drawn(whole))
    items = drawn(killed)
    broken = killed / items[5].file
    good = broken.read_bytes()
    broken.write_bytes(b"not an image")
    with pytest.raises(ValueError, match=r"mute-2.png is none of JPEG"):
        score_missing(scorers(), killed, items, SIZE, Share())
    assert unscored(killed, items, SIZE) and len(list((killed / PARTS).iterdir())) == 1
    broken.write_bytes(good)
    encoder = Colour()
    again = Scorers({"reward/red": Redness()}, Measures({"dino": encoder}, {}))
    score_missing(again, killed, items, SIZE, Share())
    assert encoder.seen == 2 + 2  # the second batch, and the photos of its subject
    assert not unscored(killed, items, SIZE)
    join_parts(killed, items, SIZE)
    assert (whole / SCORES).read_bytes() == (killed / SCORES).read_bytes()


def test_joining_can_be_interrupted_too(tmp_path: Path) -> None:
    items = drawn(tmp_path)
    table = scored(tmp_path, items)
    assert not (tmp_path / PARTS).exists() and not unscored(tmp_path, items, SIZE)
    (tmp_path / PARTS).mkdir()
    assert join_parts(tmp_path, items, SIZE).equals(table)
    assert not (tmp_path / PARTS).exists()


def test_parts_of_other_images_are_refused(tmp_path: Path) -> None:
    items = drawn(tmp_path)
    score_missing(scorers(), tmp_path, items, SIZE, Share())
    with pytest.raises(ValueError, match="parts holds scores of other images"):
        join_parts(tmp_path, items[::-1], SIZE)


def test_a_scorer_that_fails_is_named(tmp_path: Path) -> None:
    items = drawn(tmp_path)
    with pytest.raises(ValueError, match="evaluator/nobody failed: RuntimeError: out of order"):
        score_missing(scorers({"evaluator/nobody": Broken()}), tmp_path, items, SIZE, Share())


def test_a_diagnostic_that_fails_is_null_and_warned_of(tmp_path: Path) -> None:
    items = drawn(tmp_path)
    some = replace(scorers({"a": Redness(), "b": Broken()}), optional=["b"])
    with pytest.warns(UserWarning, match="b failed: RuntimeError: out of order"):
        score_missing(some, tmp_path, items, SIZE, Share())
    table = join_parts(tmp_path, items, SIZE).to_pydict()
    assert table["b"] == [None] * 6 and table["a"][:3] == [1, 0, 0]


def test_flat_images_are_missing_in_every_score_and_counted(tmp_path: Path) -> None:
    items = drawn(tmp_path)
    whole = scored(tmp_path, items).to_pydict()
    again = tmp_path / "again"
    items = drawn(again)
    Image.new("RGB", (8, 8), "red").save(again / items[0].file)
    Image.new("L", (8, 8), 7).save(again / items[4].file)
    table = scored(again, items)
    assert count_spoilt(table) == {"flat": 2}
    rows = table.to_pydict()
    assert rows["spoilt"] == ["flat", None, None, None, "flat", None]
    for name in ("reward/red", "dino/conditioning", "dino/photos", "dino/held-out"):
        assert rows[name] == [None if n in (0, 4) else whole[name][n] for n in range(6)]
    assert rows["dino/diversity"] == [None, 1, 1, 1, None, 1]  # of the others alone
    assert rows["file"] == whole["file"] and rows["subject"] == whole["subject"]


@pytest.mark.parametrize("numbers", [1, 3])
def test_a_batch_of_flat_images_alone_asks_nobody(tmp_path: Path, numbers: int) -> None:
    """Its columns are those of all other batches, so that the parts can be joined."""
    items = drawn(tmp_path, numbers)
    for item in items[:SIZE]:
        Image.new("RGB", (8, 8), "blue").save(tmp_path / item.file)
    table = scored(tmp_path, items)
    assert count_spoilt(table) == {"flat": min(SIZE, len(items))}
    fine = tmp_path / "fine"
    assert table.schema == scored(fine, drawn(fine, numbers)).schema
    assert table["dino/conditioning"].null_count == min(SIZE, len(items))


def test_real_photos_are_not_compared_with_themselves(tmp_path: Path) -> None:
    items = real_items([task("duck")])
    score_missing(scorers({}), tmp_path, items, SIZE, Share())
    table = join_parts(tmp_path, items, SIZE).to_pydict()
    assert table["dino/photos"] == [[None, 0], [0, None]]
    assert table["dino/diversity"] == [1, 1]
    assert pq.read_schema(tmp_path / SCORES).field("dino/photos").type == pa.list_(pa.float64())
