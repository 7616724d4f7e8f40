"""Datasets of every layout, small and whole, for tests that then damage them.

Each function takes a folder that exists and returns what `data.path` would be. Images are plain,
each of a colour of its own, so that a test can tell which is which.
"""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

Colour = tuple[int, int, int]


def colour(number: int) -> Colour:
    """One of 512, well apart."""
    return 20 + 28 * (number % 8), 20 + 28 * (number // 8 % 8), 20 + 28 * (number // 64 % 8)


def colour_of(image: Image.Image) -> Colour:
    """That of a plain image, as `colour` gave it, whatever compression made of it."""
    assert image.mode == "RGB"
    mean = np.asarray(image).reshape(-1, 3).mean(axis=0)
    red, green, blue = (round((value - 20) / 28) * 28 + 20 for value in mean)
    return red, green, blue


def save(file: Path, shade: int, size: tuple[int, int] = (40, 30)) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour(shade)).save(file)


def save_mask(file: Path, size: tuple[int, int] = (40, 30)) -> None:
    """White on the left half."""
    file.parent.mkdir(parents=True, exist_ok=True)
    mask = Image.new("L", size, 0)
    mask.paste(255, (0, 0, size[0] // 2, size[1]))
    mask.save(file)


def scene(seed: int, size: tuple[int, int] = (240, 180)) -> Image.Image:
    """Blobs of colour: structure, as a photo has it."""
    cells = np.random.default_rng(seed).integers(0, 256, (9, 12, 3), dtype=np.uint8)
    return Image.fromarray(cells).resize(size, Image.Resampling.BICUBIC)


def compressed(image: Image.Image, quality: int) -> Image.Image:
    """As JPEG makes it."""
    buffer = io.BytesIO()
    image.save(buffer, "jpeg", quality=quality)
    return Image.open(buffer).convert("RGB")


def jsonl(folder: Path, rows: int = 12, subjects: int = 6) -> Path:
    """Row n is about subject n % subjects, whose photos have the shades 2 n and 2 n + 1."""
    lines = []
    for number in range(rows):
        subject = number % subjects
        names = [f"photos/{subject}-{photo}.png" for photo in range(2)]
        for photo, name in enumerate(names):
            if not (folder / name).exists():
                save(folder / name, 2 * subject + photo)
        row = {"id": f"row-{number}", "prompt": f"a duck, number {number}", "class": "duck"}
        row |= {"references": names[:1], "heldout_references": names[1:]}
        lines.append({**row, "subject": f"duck-{subject}"})
    return write_lines(folder / "tasks.jsonl", lines)


def write_lines(file: Path, rows: Sequence[dict[str, Any] | str]) -> Path:
    """Rows as JSON, texts as they are."""
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    file.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return file


def lines_of(file: Path) -> list[Any]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def folder(root: Path) -> Path:
    """A red_teapot2 of three photos, the first with a mask; a dog of two, with a prompt more."""
    for photo in range(3):
        save(root / "red_teapot2" / f"{photo}.png", photo)
    save_mask(root / "red_teapot2" / "masks" / "0.png")
    for photo in range(2):
        save(root / "dog" / f"{photo}.jpg", 8 + photo)
    (root / "dog" / "class.txt").write_text("puppy\n", encoding="utf-8")
    (root / "dog" / "prompts.txt").write_text("a {} asleep\n", encoding="utf-8")
    text = "# of all\na {} in the snow\n\na blue {}\n"
    (root / "prompts.txt").write_text(text, encoding="utf-8")
    return root


def syncd(root: Path, sets: int = 4) -> Path:
    """Sets of three images in folders of their own, with small masks beside them."""
    records = []
    for number in range(sets):
        names = [f"{number}/{image}.png" for image in "abc"]
        for image, name in enumerate(names):
            save(root / name, 3 * number + image)
            save_mask(root / str(number) / "masks" / f"{Path(name).stem}.jpg", (8, 6))
        prompts = [f"a clock {number} in place {image}" for image in range(3)]
        record = {"filenames": names, "prompts": prompts, "category": "rigid"}
        records.append({**record, "category_description": "a clock", "objaverse_id": f"x{number}"})
    (root / "metadata.json").write_text(json.dumps(records), encoding="utf-8")
    return root


def subjects200k(
    root: Path, pairs: int = 6, ratings: Sequence[int] = (), side: int = 32, padding: int = 8
) -> Path:
    """Two Parquet files with row groups of two pairs; pair n has the shades 2 n and 2 n + 1."""
    rows = [pair(number, side, padding) for number in range(pairs)]
    for row, rating in zip(rows, ratings, strict=False):
        row["quality_assessment"]["imageQuality"] = rating
    half = (pairs + 1) // 2
    (root / "data").mkdir(exist_ok=True)
    for number, part in enumerate((rows[:half], rows[half:])):
        write_pairs(root / "data" / f"train-{number:05d}-of-00002.parquet", part)
    return root


def pair(number: int, side: int = 32, padding: int = 8) -> dict[str, Any]:
    """A row: as wide as published ones, with twice the padding at the right."""
    width, height = 2 * (side + 2 * padding), side + 2 * padding
    composite = Image.new("RGB", (width, height), "white")
    for half in range(2):
        image = Image.new("RGB", (side, side), colour(2 * number + half))
        composite.paste(image, (padding + half * (side + padding), padding))
    bytes_ = io.BytesIO()
    composite.save(bytes_, "PNG")
    return {
        "image": {"bytes": bytes_.getvalue(), "path": None},
        "collection": "collection_2",
        "quality_assessment": {
            "compositeStructure": 5,
            "objectConsistency": 5,
            "imageQuality": 5,
        },
        "description": {
            "item": f"Item {number}",
            "description_0": f"Item {number} on a desk.",
            "description_1": f"Item {number} on a beach.",
            "category": "Furniture",
            "description_valid": True,
        },
    }


def write_pairs(file: Path, rows: Sequence[dict[str, Any]]) -> None:
    pq.write_table(pa.Table.from_pylist(list(rows)), file, row_group_size=2)
