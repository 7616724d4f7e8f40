"""Generation apart from scoring: plans, batches, shares, and what a killed call leaves behind."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from rolling import PROMPTS, LinearCondition, LinearPolicy, sampler
from tiny import a_task, make_policy, photo
from torch import Tensor

from likewise.evaluation.batches import Share
from likewise.evaluation.drawing import (
    claim_system,
    clear_leftovers,
    draw_missing,
    plan,
    unfinished,
)
from likewise.evaluation.items import Item, match_rows
from likewise.protocols import Policy
from likewise.rollout.sampler import Sampler
from likewise.rollout.spoilt import why_spoilt
from likewise.types import Task

TASKS = [replace(a_task(prompt), id=f"t{index}") for index, prompt in enumerate(PROMPTS)]
ALONE = Share()


def planned(folder: Path, tasks: Sequence[Task] = TASKS, numbers: int = 2) -> list[Item]:
    rows = plan(tasks, numbers, seed=1)
    claim_system(folder, rows)
    return match_rows(rows, tasks, folder)


def draw(
    items: Sequence[Item], policy: Policy | None = None, size: int = 3, share: Share = ALONE
) -> None:
    policy = policy or LinearPolicy()
    draw_missing(policy, sampler(policy), items, size, lambda one: one, share)


def contents(folder: Path) -> dict[str, bytes]:
    files = (file for file in folder.rglob("*") if file.is_file())
    return {str(file.relative_to(folder)): file.read_bytes() for file in files}


def test_a_plan_names_every_image_and_its_noise() -> None:
    rows = plan(TASKS, 2, seed=1)
    assert [row.file for row in rows[:3]] == [f"images/t{x}.png" for x in ("0-0", "0-1", "1-0")]
    assert (rows[3].task, rows[3].number, rows[3].prompt) == ("t1", 1, PROMPTS[1])
    assert len({row.seed for row in rows}) == len(rows)
    assert plan(TASKS[3:], 1, seed=1)[0] == rows[6]  # whatever else is drawn
    assert plan(TASKS, 2, seed=2)[0].seed != rows[0].seed


def test_neither_batches_nor_processes_change_a_image(tmp_path: Path) -> None:
    draw(planned(tmp_path / "a"))
    draw(planned(tmp_path / "b"), size=100)
    two = planned(tmp_path / "c")
    for index in (1, 0):
        draw(two, share=Share(index, 2))
    wanted = contents(tmp_path / "a")
    assert len(wanted) == 11 and contents(tmp_path / "b") == contents(tmp_path / "c") == wanted
    assert len({data for name, data in wanted.items() if name.endswith(".png")}) == 10
    with Image.open(tmp_path / "a" / "images" / "t0-0.png") as image:
        assert image.mode == "RGB"


class Dying(LinearPolicy):
    """Fails at its third batch."""

    def encode(self, tasks: Sequence[Task]) -> LinearCondition:
        if len(self.encoded) == 6:
            raise KeyboardInterrupt
        return super().encode(tasks)


def test_an_interrupted_call_keeps_its_batches_and_repeats_none(tmp_path: Path) -> None:
    undisturbed = planned(tmp_path / "undisturbed")
    draw(undisturbed)
    items = planned(tmp_path / "killed")
    with pytest.raises(KeyboardInterrupt):
        draw(items, Dying())
    images = tmp_path / "killed" / "images"
    finished = {file: file.stat().st_mtime_ns for file in images.iterdir()}
    assert len(finished) == 6 and unfinished(items) and not unfinished(items[:6])
    (images / ".tmp-t3-0.png-123").write_bytes(b"half a pict")
    clear_leftovers(tmp_path / "killed")
    policy = LinearPolicy()
    draw(items, policy)
    assert policy.encoded == [item.task.prompt for item in items[6:]]
    assert {file: file.stat().st_mtime_ns for file in finished} == finished
    assert contents(tmp_path / "killed") == contents(tmp_path / "undisturbed")


class Overflowing(LinearPolicy):
    """Its second image has one pixel that is not finite, its third is grey."""

    def decode(self, x: Tensor) -> Tensor:
        images = super().decode(x)
        images[1, 0, 0, 0], images[2] = torch.nan, 0.5
        return images


def test_what_was_not_finite_is_known_from_the_file(tmp_path: Path) -> None:
    items = planned(tmp_path)[:3]
    draw(items, Overflowing())
    images = [item.image() for item in items]
    assert [why_spoilt(image) for image in images] == ["", "not_finite", "flat"]
    assert images[1].getpixel((0, 0))[0] == 0  # type: ignore[index]
    png_files = [(tmp_path / item.file).read_bytes() for item in items]
    assert [b"tEXt" in data for data in png_files] == [False, True, True]


def test_a_batch_that_lacks_one_image_is_drawn_whole(tmp_path: Path) -> None:
    """So its images are computed together as they were, and equal in every bit."""
    items = planned(tmp_path)
    draw(items)
    wanted = contents(tmp_path)
    (tmp_path / items[4].file).unlink()
    policy = LinearPolicy()
    draw(items, policy)
    assert policy.encoded == [item.task.prompt for item in items[3:6]]
    assert contents(tmp_path) == wanted


def test_other_images_in_the_folder_are_refused(tmp_path: Path) -> None:
    planned(tmp_path)
    planned(tmp_path)
    with pytest.raises(ValueError, match=r"manifest.jsonl lists other images.*--out"):
        planned(tmp_path, TASKS[:2])


def test_the_policy_sees_fitted_copies_of_references(tmp_path: Path) -> None:
    large = [replace(task, reference=photo(96, 160, 7)) for task in TASKS[:2]]
    seen: list[tuple[int, int]] = []

    class Looking(LinearPolicy):
        def encode(self, tasks: Sequence[Task]) -> LinearCondition:
            seen.extend(task.reference.size for task in tasks)
            return super().encode(tasks)

    policy = Looking()
    items = planned(tmp_path, large, 1)
    draw_missing(policy, sampler(policy), items, 3, lambda one: one.resize((8, 8)), ALONE)
    assert seen == [(8, 8)] * 2 and items[0].task.reference.size == (160, 96)


def test_a_disabled_adapter_draws_as_the_model_without_one(tmp_path: Path) -> None:
    """What `before` of a run is."""
    policy = make_policy()
    how = Sampler(policy.sigmas(2, None), "flow-sde", 0.7)

    def with_name(name: str) -> dict[str, bytes]:
        items = planned(tmp_path / name, TASKS[:2], 1)
        draw_missing(policy, how, items, 2, lambda one: one, ALONE)
        return contents(tmp_path / name / "images")

    without = with_name("without")
    policy.add_lora(2, 4.0, "attention")
    for parameter in policy.trainable_parameters():
        parameter.data.normal_(std=1.0)
    with policy.adapter_disabled():
        assert with_name("disabled") == without
    assert with_name("enabled") != without
