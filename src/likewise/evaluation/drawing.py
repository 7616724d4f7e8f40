"""Generation, apart from scoring: first a plan, ``manifest.jsonl``, then its missing images."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from likewise.evaluation.batches import BatchProgress, Share, silent
from likewise.evaluation.items import Item
from likewise.evaluation.manifest import MANIFEST, Row, read_manifest, write_manifest
from likewise.protocols import Policy
from likewise.records.atomic import remove_leftovers, write_atomically
from likewise.rollout.sampler import Sampler
from likewise.rollout.spoilt import MARK, to_marked_pil
from likewise.rollout.trajectories import draw_images
from likewise.seeding import derive_seed
from likewise.types import Task

IMAGES = "images"

Fit = Callable[[Image.Image], Image.Image]


def plan(tasks: Sequence[Task], images_per_prompt: int, seed: int) -> list[Row]:
    """One row per image, task by task; its noise follows from seed, task and number alone.

    So the systems of a run, and those of all runs, start from the same noise.
    """
    return [
        Row(
            file=f"{IMAGES}/{task.id}-{number}.png",
            subject=task.subject,
            prompt=task.prompt,
            task=task.id,
            number=number,
            seed=derive_seed("evaluation", seed, task.id, number),
        )
        for task in tasks
        for number in range(images_per_prompt)
    ]


def claim_system(folder: Path, rows: Sequence[Row]) -> None:
    """Write the manifest of the system in `folder`, or make sure that it is this one.

    Raises:
        ValueError: the folder holds other images.
    """
    file = folder / MANIFEST
    (folder / IMAGES).mkdir(parents=True, exist_ok=True)
    if not file.exists():
        write_manifest(file, rows)
    elif read_manifest(file) != list(rows):
        raise ValueError(
            f"{file} lists other images than are to be measured now: "
            "choose another --out, or remove that folder"
        )


def unfinished(items: Sequence[Item]) -> bool:
    """Whether any image is still to be drawn."""
    return not all(_path(item).exists() for item in items)


def draw_missing(
    policy: Policy,
    sampler: Sampler,
    items: Sequence[Item],
    size: int,
    fit: Fit,
    share: Share,
    progress: BatchProgress = silent,
) -> None:
    """Draw each of this share's batches of which an image is missing, and write its PNGs.

    Args:
        items: All images of a system, with their seeds.
        size: Images per batch.
        fit: Brings a reference, which may be a photo of any size, to what the policy takes.
    """
    batches = share.batches(items, size)
    for done, (_, batch) in enumerate(batches, 1):
        if unfinished(batch):
            for item, image in zip(batch, _draw(policy, sampler, batch, fit), strict=True):
                write_atomically(_path(item), png(image))
        progress(done, len(batches))


def _draw(policy: Policy, sampler: Sampler, batch: Sequence[Item], fit: Fit) -> list[Image.Image]:
    # Images of one task differ in their seed, so here each has a task of its own.
    tasks = [
        replace(item.task, id=str(index), reference=fit(item.task.reference))
        for index, item in enumerate(batch)
    ]

    def seed_of(task: Task) -> int:
        seed = batch[int(task.id)].seed
        assert seed is not None
        return seed

    return to_marked_pil(draw_images(policy, sampler, tasks, len(batch), seed_of))


def clear_leftovers(folder: Path) -> None:
    """Remove what a killed call left half-written in a system's folder."""
    for each in (folder, folder / IMAGES):
        remove_leftovers(each)


def _path(item: Item) -> Path:
    assert item.folder is not None
    return item.folder / item.file


def png(image: Image.Image) -> bytes:
    """The bytes of a PNG file; an image that is spoilt keeps its mark (`rollout.spoilt`)."""
    buffer, notes = io.BytesIO(), PngInfo()
    if MARK in image.info:
        notes.add_text(MARK, image.info[MARK])
    image.save(buffer, "png", pnginfo=notes)
    return buffer.getvalue()
