"""The columns of an evaluation, in closed form: images of one colour, embedded as that colour."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import a_task, photo
from torch import Tensor

from likewise.evaluation.measures import Measures, background, diversity
from likewise.protocols import Encoder
from likewise.types import Task

RED, GREEN, BLUE, YELLOW = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0)
HALF = math.sqrt(0.5)  # cosine of 45°


class MeanColour:
    """An encoder: the mean colour [3]. Notes how many images it saw."""

    def __init__(self) -> None:
        self.seen = 0

    def embed(self, images: Sequence[Image.Image]) -> Tensor:
        self.seen += len(images)
        return torch.tensor(np.array([np.asarray(image).mean((0, 1)) for image in images])).float()


class Redness:
    """A prompt reward: how red, for prompts that ask for red."""

    def score(self, images: Sequence[Image.Image], tasks: Sequence[Task]) -> tuple[Tensor, Tensor]:
        values = [np.asarray(image)[..., 0].mean() / 255 for image in images]
        return torch.tensor(values), torch.tensor(["red" in task.prompt for task in tasks])


def plain(colour: tuple[int, int, int], size: tuple[int, int] = (8, 8)) -> Image.Image:
    return Image.new("RGB", size, colour)


def task(*photos: Image.Image, prompt: str = "a red duck") -> Task:
    return replace(a_task(prompt, photos[0]), other_photos=photos[1:])


def measure(image: Image.Image, one: Task, real: bool = False) -> dict[str, object]:
    columns = Measures({"m": MeanColour()}, {}).columns([image], [one], real)
    return {name: values[0] for name, values in columns.items()}


def test_likeness_to_conditioning_and_held_out_photos_differ() -> None:
    row = measure(plain(YELLOW), task(plain(RED), plain(GREEN), plain(BLUE)))
    assert row["m/conditioning"] == pytest.approx(HALF)
    assert row["m/held-out"] == pytest.approx(HALF / 2)
    assert row["m/photos"] == pytest.approx([HALF, HALF, 0.0])
    # Distances 1 - HALF/2 to the others, 1 - HALF to the conditioning one; those are 1 apart.
    assert row["m/copy-index"] == pytest.approx(HALF / 2)


@pytest.mark.parametrize(("colour", "index"), [(RED, 1.0), (YELLOW, -1.0)])
def test_the_copy_index_tells_a_copy_from_another_photo(
    colour: tuple[int, int, int], index: float
) -> None:
    row = measure(plain(colour), task(plain(RED), plain(YELLOW)))
    assert row["m/copy-index"] == pytest.approx(index)


def test_photos_that_are_all_alike_tell_nothing_about_copying() -> None:
    row = measure(plain(YELLOW), task(plain(RED), plain(RED)))
    assert row["m/copy-index"] is None
    assert row["m/photos"] == pytest.approx([HALF, HALF])


def test_without_other_photos_there_is_nothing_held_out() -> None:
    row = measure(plain(RED), task(plain(RED)))
    assert row["m/conditioning"] == pytest.approx(1.0)
    assert row["m/held-out"] is None and row["m/copy-index"] is None


def reopened(image: Image.Image) -> Image.Image:
    """The same pixels in another object, as from a file."""
    file = io.BytesIO()
    image.save(file, "png")
    return Image.open(file).convert("RGB")


def test_a_real_photo_is_not_compared_with_itself() -> None:
    one = task(plain(RED), plain(YELLOW), plain(BLUE))
    held_out = measure(reopened(plain(YELLOW)), one, real=True)
    assert held_out["m/photos"] == [pytest.approx(HALF), None, pytest.approx(0.0, abs=1e-9)]
    assert held_out["m/held-out"] == pytest.approx(0.0, abs=1e-9)
    assert held_out["m/copy-index"] == pytest.approx(HALF)  # blue and red are 1 apart
    conditioning = measure(reopened(plain(RED)), one, real=True)
    assert conditioning["m/conditioning"] is conditioning["m/copy-index"] is None
    assert conditioning["m/photos"] == [None, pytest.approx(HALF), pytest.approx(0.0)]


def test_a_drawn_copy_is_compared_with_what_it_copies() -> None:
    assert measure(plain(RED), task(plain(RED), plain(BLUE)))["m/conditioning"] == pytest.approx(1)


def test_a_real_photo_must_be_one_of_its_subjects() -> None:
    with pytest.raises(ValueError, match="photo of 'duck' is none of them"):
        measure(plain(BLUE), task(plain(RED), plain(YELLOW)), real=True)


def test_prompts_count_where_they_apply_not_for_real_photos() -> None:
    images, tasks = [plain(YELLOW), plain(BLUE), plain(RED)], []
    for prompt, image in zip(("a red duck", "a red duck", "a duck"), images, strict=True):
        tasks.append(task(image, prompt=prompt))
    measures = Measures({}, {"redness": Redness()})
    assert measures.columns(images, tasks)["redness"] == [1.0, 0.0, None]
    assert measures.columns(images, tasks, real=True)["redness"] == [None] * 3


def test_photos_are_embedded_once() -> None:
    encoder, photos = MeanColour(), [plain(RED), plain(GREEN), plain(BLUE)]
    assert isinstance(encoder, Encoder)
    measures = Measures({"m": encoder}, {})
    for _ in range(2):
        tasks = [task(*map(reopened, photos)) for _ in range(4)]
        measures.columns([plain(YELLOW)] * 4, tasks)
    assert encoder.seen == 2 * 4 + 3


def test_batches_of_any_size_give_the_same_columns() -> None:
    images = [photo(8, 8, seed) for seed in range(5)]
    tasks = [task(photo(8, 8, 10 + seed), photo(8, 8, 20), photo(8, 8, 21)) for seed in range(5)]
    measures = Measures({"m": MeanColour()}, {"redness": Redness()})
    whole = measures.columns(images, tasks)
    first, rest = (measures.columns(images[p], tasks[p]) for p in (slice(2), slice(2, 5)))
    assert whole == {name: first[name] + rest[name] for name in whole}
    known = measures.embed(images)
    assert measures.columns(images, tasks, embeddings=known) == whole


def test_one_task_per_image() -> None:
    with pytest.raises(ValueError, match="2 images but 1 tasks"):
        Measures({}, {}).columns([plain(RED)] * 2, [task(plain(RED))])


def test_diversity_is_the_mean_distance_to_the_other_images() -> None:
    rows = torch.tensor([[1.0, 0.0], [0.0, 3.0], [2.0, 2.0]])
    expected = [(1 + 1 - HALF) / 2, (1 + 1 - HALF) / 2, 1 - HALF]
    assert diversity(rows) == pytest.approx(expected)
    assert diversity(rows[:1].repeat(3, 1)) == pytest.approx([0.0] * 3, abs=1e-9)
    assert diversity(rows[:1]) == [None]


def masked(reference: Image.Image) -> Task:
    """The subject is the left half."""
    mask = Image.new("L", reference.size, 0)
    mask.paste(255, (0, 0, reference.width // 2, reference.height))
    return replace(task(reference), reference_mask=mask)


def test_background_looks_at_what_the_mask_leaves_out() -> None:
    one = masked(plain(RED))
    assert background(plain(RED), one) == 1.0
    assert background(plain(RED, (20, 12)), one) == 1.0  # brought to the reference's size
    assert background(plain(YELLOW), one) == pytest.approx(2 / 3)  # one channel of three differs
    other_subject = plain(RED)
    other_subject.paste(BLUE, (0, 0, 4, 8))
    assert background(other_subject, one) == 1.0


def test_without_a_background_there_is_nothing_to_say() -> None:
    assert background(plain(RED), task(plain(RED))) is None
    full = replace(task(plain(RED)), reference_mask=Image.new("L", (8, 8), 255))
    assert background(plain(RED), full) is None
