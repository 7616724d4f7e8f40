"""What every reward that runs an encoder promises, with tiny untrained models of real classes."""

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
from safetensors.torch import load_file, save_file
from tiny_encoders import COUNT, DINOS, IMAGES, SIDE, TASKS, make_image, task
from transformers import AutoModel

from likewise.protocols import Reward
from likewise.rewards.clip import ClipI, ClipReward
from likewise.rewards.common.inputs import BATCH_SIZE
from likewise.rewards.dino import DinoReward
from likewise.rewards.evaluators import IdentityEvaluator, PromptEvaluator
from likewise.rewards.pickscore import PickScoreReward
from likewise.rewards.segmenters.function_segmenter import FunctionSegmenter


def reddish(images: Sequence[Image.Image], names: Sequence[str]) -> list[Image.Image]:
    return [image.getchannel(0).point(lambda level: 255 * (level > 100)) for image in images]


def build(kind: str, encoders: Path) -> Any:
    if kind in DINOS:
        return DinoReward(encoders / kind)
    return {
        "dino-seg": lambda: DinoReward(encoders / "dinov2", segment=True),
        "dino-seg-both": lambda: DinoReward(
            encoders / "dinov2",
            segment=True,
            segment_generated=True,
            segmenter=FunctionSegmenter(reddish),
        ),
        "clip": lambda: ClipReward(encoders / "clip"),
        "clip-i": lambda: ClipI(encoders / "clip"),
        "pickscore": lambda: PickScoreReward(encoders / "clip"),
        "identity": lambda: IdentityEvaluator(encoders / "identity"),
        "attributes": lambda: PromptEvaluator(encoders / "attributes"),
    }[kind]()


PROMPTED = ("clip", "pickscore", "attributes")
LIKENESSES = (*DINOS, "clip-i", "identity")
KINDS = (*LIKENESSES, "dino-seg", "dino-seg-both", *PROMPTED)


@pytest.mark.parametrize("kind", KINDS)
def test_scores_have_the_promised_shape(kind: str, encoders: Path) -> None:
    reward = build(kind, encoders)
    assert isinstance(reward, Reward)
    values, valid = reward.score(IMAGES, TASKS)
    assert values.shape == valid.shape == (COUNT,)
    assert values.dtype == torch.float32 and valid.dtype == torch.bool
    assert valid.all()
    assert values.abs().max() <= getattr(reward, "scale", 1.0) + 1e-6
    empty, none = reward.score([], [])
    assert empty.shape == none.shape == (0,)


@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_scores_like_its_images_one_by_one(
    kind: str, encoders: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("likewise.rewards.common.inputs.BATCH_SIZE", 3)  # 7 images: 3 + 3 + 1
    reward = build(kind, encoders)
    together, _ = reward.score(IMAGES, TASKS)
    alone = [reward.score([image], [one])[0] for image, one in zip(IMAGES, TASKS, strict=True)]
    torch.testing.assert_close(together, torch.cat(alone), atol=1e-5, rtol=0)


def test_more_images_than_a_batch_score_as_in_parts(encoders: Path) -> None:
    count = BATCH_SIZE + 6
    images, tasks = [make_image(row) for row in range(count)], [task(row) for row in range(count)]
    reward = build("dino-seg-both", encoders)
    together, valid = reward.score(images, tasks)
    parts = [reward.score(images[:50], tasks[:50])[0], reward.score(images[50:], tasks[50:])[0]]
    torch.testing.assert_close(together, torch.cat(parts), atol=1e-5, rtol=0)
    assert valid.all() and together.unique().numel() > count // 2


@pytest.mark.parametrize("kind", KINDS)
def test_permuting_the_batch_permutes_the_scores(kind: str, encoders: Path) -> None:
    reward, order = build(kind, encoders), [3, 0, 6, 1, 5, 2, 4]
    values, _ = reward.score(IMAGES, TASKS)
    moved, _ = reward.score([IMAGES[i] for i in order], [TASKS[i] for i in order])
    torch.testing.assert_close(moved, values[order], atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", LIKENESSES)
def test_a_copy_of_the_reference_scores_one_the_most_there_is(kind: str, encoders: Path) -> None:
    reward = build(kind, encoders)
    copies, _ = reward.score([one.reference for one in TASKS], TASKS)
    torch.testing.assert_close(copies, torch.ones(COUNT), atol=1e-5, rtol=0)
    others, _ = reward.score(IMAGES, TASKS)
    assert (others < copies).all()


@pytest.mark.parametrize("kind", LIKENESSES)
def test_a_groups_reference_is_embedded_once(kind: str, encoders: Path) -> None:
    reward = build(kind, encoders)
    shared = [replace(TASKS[row], reference=TASKS[row % 2].reference) for row in range(COUNT)]
    copied = [replace(one, reference=one.reference.copy()) for one in shared]
    apart, _ = reward.score(IMAGES, copied)
    seen: list[int] = []
    pixels = reward.pixels
    reward.pixels = lambda images: (seen.append(len(images)), pixels(images))[1]
    together, _ = reward.score(IMAGES, shared)
    assert sum(seen) == COUNT + 2
    torch.testing.assert_close(together, apart, atol=1e-6, rtol=0)


@pytest.mark.parametrize("kind", ["clip", "pickscore"])
def test_a_groups_prompt_is_embedded_once_with_the_same_result(kind: str, encoders: Path) -> None:
    reward = build(kind, encoders)
    seen: list[str] = []
    encode = reward._encode_texts
    reward._encode_texts = lambda texts: (seen.extend(texts), encode(texts))[1]
    together, _ = reward.score(IMAGES, TASKS)
    assert sorted(seen) == sorted({one.prompt for one in TASKS})
    alone = [reward.score([image], [one])[0] for image, one in zip(IMAGES, TASKS, strict=True)]
    torch.testing.assert_close(together, torch.cat(alone), atol=1e-5, rtol=0)


def saved_in(dtype: torch.dtype, folder: Path, copy: Path) -> None:
    """A copy of a model's directory, with its weights rounded to half precision, saved in dtype."""
    shutil.copytree(folder, copy)
    weights = load_file(folder / "model.safetensors")
    rounded = {name: each.half().to(dtype) for name, each in weights.items()}
    save_file(rounded, copy / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((copy / "config.json").read_text()) | {"dtype": str(dtype).split(".")[1]}
    (copy / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize("kind", [*DINOS, "clip", "clip-i", "pickscore"])
def test_what_was_saved_in_half_precision_runs_in_float32(
    kind: str, encoders: Path, tmp_path: Path
) -> None:
    folder = kind if kind in DINOS else "clip"
    saved_in(torch.float16, encoders / folder, tmp_path / "half" / folder)
    saved_in(torch.float32, encoders / folder, tmp_path / "whole" / folder)
    assert AutoModel.from_pretrained(tmp_path / "half" / folder).dtype == torch.float16
    half, whole = build(kind, tmp_path / "half"), build(kind, tmp_path / "whole")
    assert {each.dtype for each in half.model.parameters()} == {torch.float32}
    assert torch.equal(half.score(IMAGES, TASKS)[0], whole.score(IMAGES, TASKS)[0])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (Image.new("L", (SIDE, SIDE)), "image 1 has mode 'L'"),
        (Image.new("RGBA", (SIDE, SIDE)), "image 1 has mode 'RGBA'"),
        (np.zeros((SIDE, SIDE, 3)), "image 1 is not a PIL image but ndarray"),
    ],
)
def test_a_wrong_image_is_named(kind: str, bad: Any, message: str, encoders: Path) -> None:
    with pytest.raises(ValueError, match=message):
        build(kind, encoders).score([IMAGES[0], bad], TASKS[:2])


@pytest.mark.parametrize("kind", [*LIKENESSES, "dino-seg", "dino-seg-both"])
def test_a_wrong_reference_is_named(kind: str, encoders: Path) -> None:
    grey = replace(TASKS[1], reference=TASKS[1].reference.convert("L"))
    with pytest.raises(ValueError, match="reference 1 has mode 'L'"):
        build(kind, encoders).score(IMAGES[:2], [TASKS[0], grey])


@pytest.mark.parametrize("kind", KINDS)
def test_one_task_per_image(kind: str, encoders: Path) -> None:
    with pytest.raises(ValueError, match="7 images but 2 tasks"):
        build(kind, encoders).score(IMAGES, TASKS[:2])
