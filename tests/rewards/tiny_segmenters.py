"""Tiny, randomly initialised segmentation models of the real classes, saved as directories."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tiny_encoders import IMAGENET, PATCHES, SIDE, stir, text_settings, tokenizer
from transformers import (
    CLIPSegConfig,
    CLIPSegForImageSegmentation,
    Mask2FormerConfig,
    Mask2FormerForUniversalSegmentation,
    SegformerConfig,
    SegformerForSemanticSegmentation,
    SwinConfig,
)

ADE = ("duck, waterfowl", "car, auto, automobile", "grass", "sky-other-merged")
LABELS = {"id2label": dict(enumerate(ADE)), "label2id": {name: row for row, name in enumerate(ADE)}}


def save_clipseg(folder: Path) -> None:
    tokens = tokenizer()
    vision = PATCHES | {"intermediate_size": 32}
    config = CLIPSegConfig(
        text_config=text_settings(tokens),
        vision_config=vision,
        projection_dim=8,
        reduce_dim=8,
        extract_layers=[0, 1],
        decoder_num_attention_heads=2,
        decoder_intermediate_size=16,
    )
    model = CLIPSegForImageSegmentation(config)
    stir(model.decoder)
    model.save_pretrained(folder)
    tokens.save_pretrained(folder)
    _save_processor(folder, "ViTImageProcessor", {"height": SIDE, "width": SIDE})
    settings = {"processor_class": "CLIPSegProcessor"}
    (folder / "processor_config.json").write_text(json.dumps(settings))


def save_segformer(folder: Path) -> None:
    config = SegformerConfig(
        num_encoder_blocks=2,
        depths=[1, 1],
        sr_ratios=[2, 1],
        hidden_sizes=[8, 16],
        patch_sizes=[7, 3],
        strides=[4, 2],
        num_attention_heads=[1, 2],
        mlp_ratios=[2, 2],
        decoder_hidden_size=16,
        initializer_range=0.5,
        **LABELS,
    )
    SegformerForSemanticSegmentation(config).save_pretrained(folder)
    _save_processor(folder, "SegformerImageProcessor", {"height": 64, "width": 64})


def save_mask2former(folder: Path) -> None:
    """Its processor keeps the sides' proportion, and would pad a batch to the largest."""
    backbone = SwinConfig(
        image_size=64,
        patch_size=4,
        embed_dim=8,
        depths=[1, 1, 1, 1],
        num_heads=[1, 1, 2, 2],
        window_size=4,
        out_features=["stage1", "stage2", "stage3", "stage4"],
    )
    config = Mask2FormerConfig(
        backbone_config=backbone,
        feature_size=32,
        mask_feature_size=32,
        hidden_dim=32,
        encoder_feedforward_dim=16,
        encoder_layers=1,
        decoder_layers=2,
        dim_feedforward=16,
        num_attention_heads=2,
        num_queries=6,
        **LABELS,
    )
    model = Mask2FormerForUniversalSegmentation(config)
    stir(model)
    model.save_pretrained(folder)
    size = {"shortest_edge": 64, "longest_edge": 128}
    _save_processor(folder, "Mask2FormerImageProcessor", size)


def _save_processor(folder: Path, kind: str, size: dict[str, int]) -> None:
    mean, std = IMAGENET
    settings: dict[str, Any] = {
        "image_processor_type": kind,
        "size": size,
        "resample": 2,
        "image_mean": mean,
        "image_std": std,
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))
