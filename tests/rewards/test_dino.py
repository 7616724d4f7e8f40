"""DINO, whole and segmented, equals transformers and PIL, written out."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_encoders import (
    CLASSES,
    COUNT,
    DINOS,
    IMAGENET,
    IMAGES,
    SIDE,
    TASKS,
    cosine,
    cropped,
    make_image,
    normalised,
    resized,
    task,
)

from likewise.rewards.dino import BACKGROUND, DinoReward
from likewise.rewards.segmenters.function_segmenter import FunctionSegmenter
from likewise.types import Task

# --- written out ---------------------------------------------------------------------------------


def direct_pixels(image: Image.Image, kind: str) -> torch.Tensor:
    """[1, 3, SIDE, SIDE] as the settings of `processor_settings` say."""
    if kind == "vit":  # squashed
        small = image.resize((SIDE, SIDE), Image.Resampling.BILINEAR)
        return normalised(np.asarray(small, dtype=np.float64), 0.5, 0.5)
    if kind.startswith("dinov3"):  # squashed too, but as numbers: nothing is rounded
        levels = np.asarray(image, dtype=np.float32)
        planes = [Image.fromarray(levels[..., channel]) for channel in range(3)]
        small = [each.resize((SIDE, SIDE), Image.Resampling.BILINEAR) for each in planes]
        return normalised(np.stack([np.asarray(each) for each in small], axis=-1), *IMAGENET)
    return normalised(cropped(resized(image, SIDE + 8, Image.Resampling.BICUBIC)), *IMAGENET)


@torch.no_grad()
def direct_values(
    kind: str, encoders: Path, images: Sequence[Image.Image], references: Sequence[Image.Image]
) -> torch.Tensor:
    """One image at a time."""
    extra = {"add_pooling_layer": False} if kind == "vit" else {}
    model = CLASSES[kind].from_pretrained(encoders / kind, **extra).eval()

    def token(image: Image.Image) -> np.ndarray:
        return model(direct_pixels(image, kind)).last_hidden_state[0, 0].numpy()

    pairs = zip(images, references, strict=True)
    return torch.tensor([cosine(token(image), token(reference)) for image, reference in pairs])


def direct_subject(image: Image.Image, mask: np.ndarray) -> Image.Image:
    """Grey, as far as the mask [H, W] in 0–255 says."""
    share = mask[..., None].astype(np.float64) / 255
    blended = share * np.asarray(image) + (1 - share) * np.array(BACKGROUND)
    return Image.fromarray(np.rint(blended).astype(np.uint8))


def red(image: Image.Image) -> np.ndarray:
    """A mask of what is red, bool [H, W]."""
    return np.asarray(image)[..., 0] > 120


def reds(images: Sequence[Image.Image], names: Sequence[str]) -> list[Image.Image | None]:
    """A segmenter: finds nothing where nothing is red, or where a task is not about ducks."""
    return [
        Image.fromarray(red(image).astype(np.uint8) * 255) if name == "duck" else None
        for image, name in zip(images, names, strict=True)
    ]


REDS = FunctionSegmenter(reds)


class Ducks(FunctionSegmenter):
    """Knows ducks alone, and minds being asked for anything else, or for nothing."""

    def __init__(self) -> None:
        super().__init__(self.ducks)
        self.asked = 0

    def knows(self, class_name: str) -> bool:
        return class_name == "duck"

    def ducks(self, images: Sequence[Image.Image], names: Sequence[str]) -> Any:
        assert images and set(names) == {"duck"}
        self.asked += 1
        return reds(images, names)


def soft(size: tuple[int, int]) -> Image.Image:
    """A mask with every value between 0 and 255."""
    row = np.linspace(0, 255, size[0]).astype(np.uint8)
    return Image.fromarray(np.tile(row, (size[1], 1)))


def close(values: torch.Tensor, direct: torch.Tensor) -> None:
    torch.testing.assert_close(values, direct, atol=1e-5, rtol=0)
    assert values.std() > 0.02 and values.max() < 0.999  # the model does tell them apart


# --- equal ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", DINOS)
def test_whole_images(kind: str, encoders: Path) -> None:
    values, valid = DinoReward(encoders / kind).score(IMAGES, TASKS)
    close(values, direct_values(kind, encoders, IMAGES, [one.reference for one in TASKS]))
    assert valid.all()


@pytest.mark.parametrize("kind", DINOS)
def test_the_references_subject_alone_by_its_mask(kind: str, encoders: Path) -> None:
    tasks = [replace(TASKS[0], reference_mask=soft(TASKS[0].reference.size)), *TASKS[1:]]
    values, valid = DinoReward(encoders / kind, segment=True).score(IMAGES, tasks)
    subjects = [direct_subject(one.reference, np.asarray(one.reference_mask)) for one in tasks]
    close(values, direct_values(kind, encoders, IMAGES, subjects))
    assert valid.all()


@pytest.mark.parametrize("kind", DINOS)
def test_subjects_alone_on_both_sides(kind: str, encoders: Path) -> None:
    """Of references by their mask, or else by the segmenter; of images by the segmenter."""
    tasks = [replace(one, reference_mask=None) if row % 2 else one for row, one in enumerate(TASKS)]
    reward = DinoReward(encoders / kind, segment=True, segment_generated=True, segmenter=REDS)
    values, valid = reward.score(IMAGES, tasks)
    masks = [
        255 * red(one.reference) if one.reference_mask is None else np.asarray(one.reference_mask)
        for one in tasks
    ]
    pairs = zip(tasks, masks, strict=True)
    references = [direct_subject(one.reference, mask) for one, mask in pairs]
    images = [direct_subject(image, 255 * red(image)) for image in IMAGES]
    close(values, direct_values(kind, encoders, images, references))
    assert valid.all()


def test_generated_subjects_against_whole_references(encoders: Path) -> None:
    reward = DinoReward(encoders / "dinov2", segment_generated=True, segmenter=REDS)
    values, _ = reward.score(IMAGES, TASKS)
    images = [direct_subject(image, 255 * red(image)) for image in IMAGES]
    references = [one.reference for one in TASKS]
    close(values, direct_values("dinov2", encoders, images, references))


# --- what is missing, and what is not ------------------------------------------------------------


def test_a_image_without_its_subject_counts_as_all_background(encoders: Path) -> None:
    reward = DinoReward(encoders / "dinov2", segment=True, segment_generated=True, segmenter=REDS)
    green = Image.new("RGB", (40, 30), (0, 200, 0))
    values, valid = reward.score([green, IMAGES[1]], TASKS[:2])
    assert valid.tolist() == [True, True]
    empty = Image.new("RGB", green.size, BACKGROUND)
    assert TASKS[0].reference_mask is not None
    subject = direct_subject(TASKS[0].reference, np.asarray(TASKS[0].reference_mask))
    direct = direct_values("dinov2", encoders, [empty], [subject])
    torch.testing.assert_close(values[:1], direct, atol=1e-5, rtol=0)


def without_mask(one: Task, **changes: Any) -> Task:
    return replace(one, reference_mask=None, **changes)


def test_without_a_subject_in_the_reference_a_task_is_missing(encoders: Path) -> None:
    blank = Image.new("L", TASKS[3].reference.size)
    tasks = [
        TASKS[0],
        without_mask(TASKS[1]),
        without_mask(TASKS[2], class_name="teapot"),
        replace(TASKS[3], reference_mask=blank),  # a mask that shows nothing is none
        replace(TASKS[4], reference_mask=Image.new("L", TASKS[4].reference.size), class_name="cup"),
    ]
    images = IMAGES[:5]
    alone = DinoReward(encoders / "dinov2", segment=True)
    assert alone.score(images, tasks)[1].tolist() == [True, False, False, False, False]
    helped = DinoReward(encoders / "dinov2", segment=True, segmenter=REDS)
    values, valid = helped.score(images, tasks)
    assert valid.tolist() == [True, True, False, True, False]
    assert values[valid].isfinite().all() and values[~valid].isnan().all()
    none, missing = alone.score(images[:1], tasks[1:2])
    assert none.shape == (1,) and missing.tolist() == [False]


@pytest.mark.parametrize(
    ("settings", "masked", "bare"),
    [
        ({"segment": True}, True, False),  # its own mask will do
        ({"segment_generated": True}, False, False),  # no mask is the image's
        ({"segment": True, "segment_generated": True}, False, False),
        ({}, True, True),
    ],
)
@pytest.mark.parametrize("name", ["", "teapot"])
def test_a_class_unknown_to_a_needed_segmenter_is_missing(
    name: str, settings: dict[str, bool], masked: bool, bare: bool, encoders: Path
) -> None:
    reward = DinoReward(encoders / "dinov2", segmenter=Ducks(), **settings)
    tasks = [
        TASKS[0],
        replace(TASKS[1], class_name=name),
        without_mask(TASKS[2], class_name=name),
        without_mask(TASKS[4]),
    ]
    values, valid = reward.score(IMAGES[:4], tasks)
    assert valid.tolist() == [True, masked, bare, True]
    assert values[valid].isfinite().all() and values[~valid].isnan().all()
    for row, one in enumerate(tasks):
        alone, known = reward.score(IMAGES[row : row + 1], [one])
        assert known.tolist() == valid[row : row + 1].tolist()
        torch.testing.assert_close(values[row : row + 1], alone, atol=1e-5, rtol=0, equal_nan=True)


@pytest.mark.parametrize("segment", [False, True])
@pytest.mark.parametrize("segment_generated", [False, True])
def test_a_segmenter_is_not_asked_for_nothing(
    segment: bool, segment_generated: bool, encoders: Path
) -> None:
    ducks = Ducks()
    reward = DinoReward(
        encoders / "dinov2", segment, segment_generated=segment_generated, segmenter=ducks
    )
    blank = [without_mask(one, class_name="") for one in TASKS[:2]]
    _, valid = reward.score(IMAGES[:2], blank)
    assert valid.tolist() == [not (segment or segment_generated)] * 2
    green = Image.new("RGB", (SIDE, SIDE), (0, 200, 0))  # where no duck is found
    lost = without_mask(TASKS[0], reference=green)
    assert ducks.asked == 0
    _, valid = reward.score(IMAGES[:1], [lost])
    assert valid.tolist() == [not segment] and ducks.asked == (segment or segment_generated)
    assert [len(each) for each in reward.score([], [])] == [0, 0]


def repainted(one: Task) -> Task:
    """The same task, with another background behind the reference's subject."""
    assert one.reference_mask is not None
    other = make_image(999, one.reference.size)
    return replace(one, reference=Image.composite(one.reference, other, one.reference_mask))


def test_only_the_segmenting_reward_ignores_the_background(encoders: Path) -> None:
    others = [repainted(one) for one in TASKS]
    for ignores in (True, False):
        reward = DinoReward(encoders / "dinov2", segment=ignores)
        before, after = reward.score(IMAGES, TASKS)[0], reward.score(IMAGES, others)[0]
        assert torch.equal(before, after) is ignores


def test_a_groups_reference_is_segmented_and_embedded_once(encoders: Path) -> None:
    asked: list[int] = []

    def counting(images: Sequence[Image.Image], names: Sequence[str]) -> Any:
        asked.append(len(images))
        return reds(images, names)

    segmenter = FunctionSegmenter(counting)
    reward = DinoReward(encoders / "dinov2", segment=True, segmenter=segmenter)
    group = [without_mask(TASKS[0], id=f"sample-{row}") for row in range(4)]
    tasks = [*group, without_mask(TASKS[1]), without_mask(TASKS[0], class_name="teapot")]
    seen: list[int] = []
    pixels = reward.pixels
    reward.pixels = lambda images: (seen.append(len(images)), pixels(images))[1]
    values, valid = reward.score(IMAGES[:6], tasks)
    # A duck and a teapot in one image are two subjects; the teapot is not found.
    assert asked == [3] and sum(seen) == 5 + 2
    assert valid.tolist() == [True] * 5 + [False]
    for row in range(5):
        alone, _ = reward.score([IMAGES[row]], [tasks[row]])
        torch.testing.assert_close(values[row : row + 1], alone, atol=1e-5, rtol=0)


# --- masks, models and settings that do not fit --------------------------------------------------


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (Image.new("L", (5, 5)), r"task 'task-0': reference_mask .*\(5, 5\).*\(32, 32\)"),
        (Image.new("1", (SIDE, SIDE)), "task 'task-0': reference_mask has mode '1'.*wanted 'L'"),
        (Image.new("RGB", (SIDE, SIDE)), "task 'task-0': reference_mask has mode 'RGB'"),
        (np.zeros((SIDE, SIDE)), "task 'task-0': reference_mask is not a PIL image but ndarray"),
    ],
)
def test_a_wrong_mask_is_named(mask: Any, message: str, encoders: Path) -> None:
    wrong = replace(task(0), reference_mask=mask)
    with pytest.raises(ValueError, match=message):
        DinoReward(encoders / "dinov2", segment=True).score(IMAGES[:1], [wrong])
    DinoReward(encoders / "dinov2").score(IMAGES[:1], [wrong])  # which needs no masks


def test_segmenting_images_needs_a_segmenter(encoders: Path) -> None:
    with pytest.raises(ValueError, match="segment_generated needs a segmenter"):
        DinoReward(encoders / "dinov2", segment_generated=True)


@pytest.mark.parametrize("other", ["identity", "clip"])
def test_a_model_without_a_cls_token_is_refused(other: str, encoders: Path) -> None:
    with pytest.raises(ValueError, match=r"is a '(resnet|clip)' model.*wanted one of vit, dinov2"):
        DinoReward(encoders / other)


def test_dinov3_resizes_numbers_rather_than_levels(encoders: Path) -> None:
    """So as transformers' processor, which needs torchvision; PIL's levels are elsewhere."""
    small = IMAGES[2].resize((SIDE, SIDE), Image.Resampling.BILINEAR)
    rounded = normalised(np.asarray(small, dtype=np.float64), *IMAGENET)
    pixels = DinoReward(encoders / "dinov3").pixels(IMAGES[2:3])
    assert 1e-4 < (pixels - rounded).abs().max() < 0.02
    torch.testing.assert_close(pixels, direct_pixels(IMAGES[2], "dinov3"), atol=1e-5, rtol=0)


def test_dinov3_follows_its_checkpoints_settings(encoders: Path, tmp_path: Path) -> None:
    change = {"resample": 3, "size": {"height": 16, "width": 48}, "image_mean": [0.4, 0.4, 0.3]}
    pixels = DinoReward(with_settings(encoders, tmp_path, change)).pixels(IMAGES[:COUNT])
    assert pixels.shape == (COUNT, 3, 16, 48)
    levels = np.asarray(IMAGES[1], dtype=np.float32)
    planes = [Image.fromarray(levels[..., channel]) for channel in range(3)]
    wide = [np.asarray(each.resize((48, 16), Image.Resampling.BICUBIC)) for each in planes]
    direct = normalised(np.stack(wide, axis=-1), (0.4, 0.4, 0.3), IMAGENET[1])
    torch.testing.assert_close(pixels[1:2], direct, atol=1e-4, rtol=0)


def with_settings(encoders: Path, folder: Path, change: dict[str, Any]) -> Path:
    shutil.copytree(encoders / "dinov3", folder / "dinov3")
    file = folder / "dinov3" / "preprocessor_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    return folder / "dinov3"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"do_center_crop": True}, "do_center_crop must be False"),
        ({"do_normalize": False}, "do_normalize must be True"),
        ({"size": {"shortest_edge": 224}}, "size must give height and width"),
        ({"resample": 1}, "resample must be 2"),
    ],
)
def test_settings_that_dinov3_does_not_have_are_named(
    change: dict[str, Any], message: str, encoders: Path, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=message):
        DinoReward(with_settings(encoders, tmp_path, change))
