"""Rewards and judges, with tiny untrained models of the real classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import (
    BitImageProcessor,
    CLIPConfig,
    CLIPImageProcessor,
    CLIPModel,
    CLIPProcessor,
    CLIPTokenizer,
    Dinov2Config,
    Dinov2Model,
    ResNetConfig,
    ResNetForImageClassification,
    ResNetModel,
)

from likewise.protocols import Reward
from likewise.rewards.clip import ClipReward
from likewise.rewards.dino import DinoReward
from likewise.rewards.judges import IdentityJudge, PromptJudge, label_groups
from likewise.types import Task

SIDE, COUNT = 32, 7
PROMPTS = ("a red duck", "a tiny duck on the beach", "a duck on the left, in the snow")
LABELS = ("scene:none", "scene:beach", "scene:snow", "size:normal", "size:tiny")
PIXELS: dict[str, Any] = {
    "size": {"height": SIDE, "width": SIDE},
    "do_center_crop": False,
    "image_mean": [0.5] * 3,
    "image_std": [0.5] * 3,
}
RESNET: dict[str, Any] = {
    "embedding_size": 8,
    "hidden_sizes": [8, 16],
    "depths": [1, 1],
    "layer_type": "basic",
}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a randomly initialised directory per kind of model."""
    folder = tmp_path_factory.mktemp("models")
    torch.manual_seed(0)
    vit: dict[str, Any] = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    Dinov2Model(
        Dinov2Config(image_size=SIDE, patch_size=8, layerscale_value=1.0, **vit)
    ).save_pretrained(folder / "dino")
    ResNetModel(ResNetConfig(**RESNET)).save_pretrained(folder / "identity")
    classes = ResNetConfig(**RESNET, id2label=dict(enumerate(LABELS)))
    ResNetForImageClassification(classes).save_pretrained(folder / "attributes")
    for name in ("dino", "identity", "attributes"):
        BitImageProcessor(**PIXELS).save_pretrained(folder / name)
    save_clip(folder / "clip", vit)
    return folder


def save_clip(folder: Path, vit: dict[str, Any]) -> None:
    tokens = CLIPTokenizer().train_new_from_iterator(PROMPTS, vocab_size=600, show_progress=False)
    tokens.model_max_length = 12
    text = vit | {
        "vocab_size": len(tokens),
        "max_position_embeddings": 12,
        "projection_dim": 8,
        "intermediate_size": 32,
        "eos_token_id": tokens.eos_token_id,
    }
    vision = vit | {
        "image_size": SIDE,
        "patch_size": 8,
        "projection_dim": 8,
        "intermediate_size": 32,
    }
    config = CLIPConfig(text_config=text, vision_config=vision, projection_dim=8)
    CLIPModel(config).save_pretrained(folder)
    CLIPProcessor(CLIPImageProcessor(**PIXELS), tokens).save_pretrained(folder)


def picture(seed: int) -> Image.Image:
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((SIDE, SIDE), Image.Resampling.BICUBIC)


def task(index: int) -> Task:
    return Task(
        id=f"task-{index}",
        prompt=PROMPTS[index % len(PROMPTS)],
        class_name="duck",
        subject="duck",
        category="bird",
        kind="scene",
        complexity=1,
        reference=picture(100 + index),
        reference_mask=middle(),
        constraints={"scene": "beach", "size": "tiny"},
    )


def middle() -> Image.Image:
    """A mask whose subject is the middle quarter."""
    mask = Image.new("L", (SIDE, SIDE), 0)
    mask.paste(255, (SIDE // 4, SIDE // 4, 3 * SIDE // 4, 3 * SIDE // 4))
    return mask


def build(kind: str, models: Path) -> Any:
    return {
        "dino": lambda: DinoReward(models / "dino"),
        "dino-seg": lambda: DinoReward(models / "dino", segment=True),
        "clip": lambda: ClipReward(models / "clip"),
        "identity": lambda: IdentityJudge(models / "identity"),
        "attributes": lambda: PromptJudge(models / "attributes"),
    }[kind]()


KINDS = ("dino", "dino-seg", "clip", "identity", "attributes")
IMAGES = [picture(index) for index in range(COUNT)]
TASKS = [task(index) for index in range(COUNT)]


@pytest.mark.parametrize("kind", KINDS)
def test_scores_have_the_promised_shape(kind: str, models: Path) -> None:
    reward = build(kind, models)
    assert isinstance(reward, Reward)
    values, valid = reward.score(IMAGES, TASKS)
    assert values.shape == valid.shape == (COUNT,)
    assert values.dtype == torch.float32 and valid.dtype == torch.bool
    assert valid.all() and values.abs().max() <= 1.0 + 1e-6
    empty, none = reward.score([], [])
    assert empty.shape == none.shape == (0,)


@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_scores_like_its_pictures_one_by_one(
    kind: str, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("likewise.rewards.pictures.BATCH_SIZE", 3)  # 7 pictures: 3 + 3 + 1
    reward = build(kind, models)
    together, _ = reward.score(IMAGES, TASKS)
    alone = [reward.score([image], [one])[0] for image, one in zip(IMAGES, TASKS, strict=True)]
    torch.testing.assert_close(together, torch.cat(alone), atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_permuting_the_batch_permutes_the_scores(kind: str, models: Path) -> None:
    reward, order = build(kind, models), [3, 0, 6, 1, 5, 2, 4]
    values, _ = reward.score(IMAGES, TASKS)
    moved, _ = reward.score([IMAGES[i] for i in order], [TASKS[i] for i in order])
    torch.testing.assert_close(moved, values[order], atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", ["dino", "identity"])
def test_a_copy_of_the_reference_scores_one_and_nothing_scores_more(
    kind: str, models: Path
) -> None:
    reward = build(kind, models)
    copies, _ = reward.score([one.reference for one in TASKS], TASKS)
    torch.testing.assert_close(copies, torch.ones(COUNT), atol=1e-5, rtol=0)
    others, _ = reward.score(IMAGES, TASKS)
    assert (others < copies).all()


def repainted(one: Task) -> Task:
    """The same task, with another background behind the reference's subject."""
    assert one.reference_mask is not None
    return replace(one, reference=Image.composite(one.reference, picture(999), one.reference_mask))


def test_only_the_segmenting_reward_ignores_the_references_background(models: Path) -> None:
    others = [repainted(one) for one in TASKS]
    for kind, ignores in (("dino-seg", True), ("dino", False)):
        reward = build(kind, models)
        before, after = reward.score(IMAGES, TASKS)[0], reward.score(IMAGES, others)[0]
        assert torch.equal(before, after) is ignores


def test_without_a_mask_the_segmenting_reward_has_nothing_to_say(models: Path) -> None:
    tasks = [TASKS[0], replace(TASKS[1], reference_mask=None)]
    _, valid = build("dino-seg", models).score(IMAGES[:2], tasks)
    assert valid.tolist() == [True, False]


def test_a_mask_of_another_size_is_named(models: Path) -> None:
    wrong = replace(TASKS[0], reference_mask=Image.new("L", (5, 5)))
    with pytest.raises(ValueError, match=r"mask .*\(5, 5\).*\(32, 32\)"):
        build("dino-seg", models).score(IMAGES[:1], [wrong])


def test_clip_is_the_cosine_of_its_two_embeddings(models: Path) -> None:
    reward = build("clip", models)
    pictures, texts = reward.embed_images(IMAGES[:3]), reward.embed_texts(PROMPTS)
    cosines = torch.nn.functional.cosine_similarity(pictures, texts)
    torch.testing.assert_close(reward.score(IMAGES[:3], TASKS[:3])[0], cosines)
    assert reward.embed_texts(["a duck " * 50]).shape == (1, 8)  # cut, not refused


def asking(constraints: dict[str, str]) -> Task:
    return replace(TASKS[0], constraints=constraints)


def test_the_prompt_judge_scores_the_share_of_satisfied_constraints(models: Path) -> None:
    judge = build("attributes", models)
    seen = judge.attributes(IMAGES[:1])[0]
    wrong = next(value for value in ("normal", "tiny") if value != seen["size"])
    asked: Sequence[dict[str, str]] = (seen, {**seen, "size": wrong}, {"size": wrong}, {})
    values, valid = judge.score(IMAGES[:1] * 4, [asking(constraints) for constraints in asked])
    assert values[:3].tolist() == [1.0, 0.5, 0.0]
    assert valid.tolist() == [True, True, True, False]


def test_the_prompt_judges_probabilities_are_one_softmax_per_attribute(models: Path) -> None:
    judge = build("attributes", models)
    groups = judge.probabilities(IMAGES)
    for group in groups.values():
        torch.testing.assert_close(group.sum(1), torch.ones(COUNT))
    expected = groups["scene"][:, 1] * groups["size"][:, 1]  # beach, tiny
    torch.testing.assert_close(judge.likelihood(IMAGES, TASKS), expected)


def test_a_constraint_unknown_to_the_judge_is_named(models: Path) -> None:
    with pytest.raises(ValueError, match=r"'task-0'.*scene 'moon'"):
        build("attributes", models).score(IMAGES[:1], [asking({"scene": "moon"})])


@pytest.mark.parametrize("labels", [("beach", "snow"), ("scene:a", "size:b", "scene:c")])
def test_labels_without_clear_groups_are_refused(labels: Sequence[str]) -> None:
    with pytest.raises(ValueError, match="attribute:value"):
        label_groups(dict(enumerate(labels)))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (Image.new("L", (SIDE, SIDE)), "image 1 has mode 'L'"),
        (Image.new("RGBA", (SIDE, SIDE)), "image 1 has mode 'RGBA'"),
        (np.zeros((SIDE, SIDE, 3)), "image 1 is not a PIL picture but ndarray"),
    ],
)
def test_a_wrong_picture_is_named(kind: str, bad: Any, message: str, models: Path) -> None:
    with pytest.raises(ValueError, match=message):
        build(kind, models).score([IMAGES[0], bad], TASKS[:2])


@pytest.mark.parametrize("kind", ["dino", "dino-seg", "identity"])
def test_a_wrong_reference_is_named(kind: str, models: Path) -> None:
    grey = replace(TASKS[1], reference=TASKS[1].reference.convert("L"))
    with pytest.raises(ValueError, match="reference 1 has mode 'L'"):
        build(kind, models).score(IMAGES[:2], [TASKS[0], grey])


@pytest.mark.parametrize("kind", KINDS)
def test_one_task_per_picture(kind: str, models: Path) -> None:
    with pytest.raises(ValueError, match="7 images but 2 tasks"):
        build(kind, models).score(IMAGES, TASKS[:2])
