"""Tiny, randomly initialised encoders of the real classes, saved as directories, and tasks."""

from __future__ import annotations

import json
import string
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn
from transformers import (
    BitImageProcessor,
    CLIPConfig,
    CLIPImageProcessor,
    CLIPModel,
    CLIPProcessor,
    CLIPTokenizer,
    Dinov2Config,
    Dinov2Model,
    Dinov2WithRegistersConfig,
    Dinov2WithRegistersModel,
    DINOv3ConvNextConfig,
    DINOv3ConvNextModel,
    DINOv3ViTConfig,
    DINOv3ViTModel,
    ResNetConfig,
    ResNetForImageClassification,
    ResNetModel,
    ViTConfig,
    ViTModel,
)

from likewise.types import Task

SIDE = 32  # of every model's input
TEXT_LENGTH = 77  # as CLIP's
PROMPTS = ("a red duck", "a tiny duck on the beach", "a duck on the left, in the snow")
LABELS = ("scene:none", "scene:beach", "scene:snow", "size:normal", "size:tiny")
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
NARROW: dict[str, Any] = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "initializer_range": 0.5,  # else images hardly differ to an untrained model
}
PATCHES: dict[str, Any] = {"image_size": SIDE, "patch_size": 8, **NARROW}
RESNET: dict[str, Any] = {
    "embedding_size": 8,
    "hidden_sizes": [8, 16],
    "depths": [1, 1],
    "layer_type": "basic",
}
DINOS = ("vit", "dinov2", "dinov2-registers", "dinov3", "dinov3-convnext")
CLASSES: dict[str, Any] = {
    "vit": ViTModel,
    "dinov2": Dinov2Model,
    "dinov2-registers": Dinov2WithRegistersModel,
    "dinov3": DINOv3ViTModel,
    "dinov3-convnext": DINOv3ConvNextModel,
}


def save_encoders(folder: Path) -> None:
    """A directory per kind: `DINOS`, ``clip``, the evaluators ``identity`` and ``attributes``."""
    torch.manual_seed(0)
    for kind in DINOS:
        save_dino(folder / kind, kind)
    save_clip(folder / "clip")
    ResNetModel(ResNetConfig(**RESNET)).save_pretrained(folder / "identity")
    classes = ResNetConfig(**RESNET, id2label=dict(enumerate(LABELS)))
    ResNetForImageClassification(classes).save_pretrained(folder / "attributes")
    for name in ("identity", "attributes"):
        BitImageProcessor(
            size={"height": SIDE, "width": SIDE},
            do_center_crop=False,
            image_mean=[0.5] * 3,
            image_std=[0.5] * 3,
        ).save_pretrained(folder / name)


def save_dino(folder: Path, kind: str) -> None:
    dino(kind).save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(processor_settings(kind)))


def dino(kind: str) -> Any:
    wide = {"intermediate_size": 32, **PATCHES}
    if kind == "vit":
        return ViTModel(ViTConfig(**wide), add_pooling_layer=False)
    if kind == "dinov2":
        return Dinov2Model(Dinov2Config(layerscale_value=1.0, **PATCHES))
    if kind == "dinov2-registers":
        config = Dinov2WithRegistersConfig(num_register_tokens=2, layerscale_value=1.0, **PATCHES)
        return Dinov2WithRegistersModel(config)
    if kind == "dinov3":
        return DINOv3ViTModel(DINOv3ViTConfig(num_register_tokens=2, **wide))
    stages: dict[str, Any] = {"hidden_sizes": [8, 8, 8, 16], "depths": [1] * 4}
    return DINOv3ConvNextModel(
        DINOv3ConvNextConfig(
            image_size=SIDE, layer_scale_init_value=1.0, initializer_range=0.5, **stages
        )
    )


def processor_settings(kind: str) -> dict[str, Any]:
    """As the published checkpoints ship them, but for the size."""
    mean, std = IMAGENET
    if kind == "vit":
        return {"feature_extractor_type": "ViTFeatureExtractor", "size": SIDE, "resample": 2}
    if kind.startswith("dinov3"):
        return {
            "image_processor_type": "DINOv3ViTImageProcessorFast",
            "size": {"height": SIDE, "width": SIDE},
            "resample": 2,
            "image_mean": mean,
            "image_std": std,
            "rescale_factor": 1 / 255,
            "do_resize": True,
            "do_rescale": True,
            "do_normalize": True,
            "do_center_crop": None,
        }
    return {
        "image_processor_type": "BitImageProcessor",
        "size": {"shortest_edge": SIDE + 8},
        "crop_size": {"height": SIDE, "width": SIDE},
        "resample": 3,
        "image_mean": mean,
        "image_std": std,
    }


def tokenizer() -> CLIPTokenizer:
    """One token per letter. To train one on words would break ties by chance."""
    pieces = [*string.ascii_lowercase, ",", *(f"{each}</w>" for each in string.ascii_lowercase)]
    words = [*pieces, ",</w>", "<|startoftext|>", "<|endoftext|>"]
    tokens = CLIPTokenizer(vocab={word: row for row, word in enumerate(words)}, merges=[])
    tokens.model_max_length = TEXT_LENGTH
    return tokens


def text_settings(tokens: CLIPTokenizer) -> dict[str, Any]:
    return NARROW | {
        "vocab_size": len(tokens),
        "max_position_embeddings": TEXT_LENGTH,
        "projection_dim": 8,
        "intermediate_size": 32,
        "bos_token_id": tokens.bos_token_id,
        "eos_token_id": tokens.eos_token_id,
    }


def save_clip(folder: Path) -> None:
    tokens = tokenizer()
    vision = PATCHES | {"projection_dim": 8, "intermediate_size": 32}
    config = CLIPConfig(text_config=text_settings(tokens), vision_config=vision, projection_dim=8)
    model = CLIPModel(config)
    stir(model)
    model.save_pretrained(folder)
    sizes = {"size": {"shortest_edge": SIDE}, "crop_size": {"height": SIDE, "width": SIDE}}
    CLIPProcessor(CLIPImageProcessor(**sizes), tokens).save_pretrained(folder)


def stir(module: nn.Module) -> None:
    """Make untrained weights large enough for what is seen and said to matter."""
    for weight in module.parameters():
        if weight.dim() > 1:
            nn.init.normal_(weight, std=NARROW["initializer_range"])


# --- images and tasks --------------------------------------------------------------------------

SIZES = ((32, 32), (48, 40), (40, 64), (31, 57), (96, 33), (64, 64), (20, 20))  # width, height


def make_image(seed: int, size: tuple[int, int] = (SIDE, SIDE)) -> Image.Image:
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)


def middle(size: tuple[int, int] = (SIDE, SIDE)) -> Image.Image:
    """A mask whose subject is the middle quarter."""
    width, height = size
    mask = Image.new("L", size, 0)
    mask.paste(255, (width // 4, height // 4, 3 * width // 4, 3 * height // 4))
    return mask


def task(index: int, size: tuple[int, int] = (SIDE, SIDE)) -> Task:
    return Task(
        id=f"task-{index}",
        prompt=PROMPTS[index % len(PROMPTS)],
        class_name="duck",
        subject="duck",
        category="bird",
        kind="scene",
        complexity=1,
        reference=make_image(100 + index, size),
        reference_mask=middle(size),
        constraints={"scene": "beach", "size": "tiny"},
    )


COUNT = len(SIZES)
IMAGES = [make_image(index, size) for index, size in enumerate(SIZES)]
TASKS = [task(index, SIZES[index - 3]) for index in range(COUNT)]


# --- the same, written out -----------------------------------------------------------------------


def resized(image: Image.Image, shorter: int, resample: int) -> np.ndarray:
    """float64 [H, W, 3] levels, the shorter side resized by PIL."""
    width, height = image.size
    size = (
        (shorter, int(shorter * height / width))
        if width < height
        else (int(shorter * width / height), shorter)
    )
    return np.asarray(image.resize(size, resample), dtype=np.float64)


def cropped(levels: np.ndarray) -> np.ndarray:
    top, left = ((length - SIDE) // 2 for length in levels.shape[:2])
    return levels[top : top + SIDE, left : left + SIDE]


def normalised(levels: np.ndarray, mean: Any, std: Any) -> torch.Tensor:
    """[1, 3, H, W] of levels 0–255."""
    values = (levels / 255 - np.array(mean)) / np.array(std)
    return torch.from_numpy(values.transpose(2, 0, 1)).float()[None]


def cosine(one: np.ndarray, other: np.ndarray) -> float:
    return float(one @ other / np.sqrt((one @ one) * (other @ other)))
