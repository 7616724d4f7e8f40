"""Qwen-Image-Edit Plus, tiny: real classes, a VAE of scale 4, Qwen2.5-VL of one layer each."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any
from unittest.mock import patch

import tiny
import torch
from diffusers import (
    AutoencoderKLQwenImage,
    FlowMatchEulerDiscreteScheduler,
    QwenImageEditPlusPipeline,
    QwenImageTransformer2DModel,
)
from diffusers.pipelines.qwenimage import pipeline_qwenimage_edit_plus as edit_plus
from policies.families import Family
from transformers import (
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2Tokenizer,
)
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from likewise.policies.qwen.text_encoder import Qwen2VLProcessor
from likewise.policies.qwen_image_edit import QwenImageEditPolicy
from likewise.types import Task

HEIGHT, WIDTH = 16, 24  # pixels: 2×3 tokens
AREA = 2048  # of references, as the VAE and as the text encoder take them: 32×64, 64×32 or 32×32
DYNAMIC = {  # as in the published scheduler
    "use_dynamic_shifting": True,
    "base_shift": 0.5,
    "max_shift": 0.9,
    "max_image_seq_len": 8192,
    "shift": 1.0,
    "shift_terminal": 0.02,
}


VAE: dict[str, Any] = {  # of scale 4
    "base_dim": 8,
    "z_dim": 4,
    "dim_mult": [1, 1, 1],
    "num_res_blocks": 1,
    "temperal_downsample": [False, True],
    "latents_mean": [-0.8, 0.1, 1.0, -0.2],  # 0 and 1 would hide a forgotten normalisation
    "latents_std": [2.8, 1.5, 0.7, 1.1],
}


@cache
def tiny_tokenizer() -> Qwen2Tokenizer:
    """Each word of the pipeline's template is a token: it drops the first 64, counted like that."""
    names = ("im_start", "im_end", "vision_start", "vision_end", "image_pad", "video_pad")
    parts = dict.fromkeys(("scheduler", "vae", "text_encoder", "tokenizer", "processor"))
    template = QwenImageEditPlusPipeline(**parts, transformer=None).prompt_template_encode
    texts = (template, "Picture 1: 2: 3: ", tiny.PROMPT)
    vocabulary, merges = tiny.word_vocabulary(Qwen2Tokenizer(), *texts)
    special = [f"<|{name}|>" for name in names]
    return Qwen2Tokenizer(vocab=vocabulary, merges=merges, extra_special_tokens=special)


def tiny_text_encoder() -> Qwen2_5_VLForConditionalGeneration:
    tokenizer = tiny_tokenizer()
    shared = {
        "hidden_size": tiny.WIDTH,
        "intermediate_size": tiny.WIDTH,
        "initializer_range": 0.5,
    }
    text = {
        **shared,
        "vocab_size": len(tokenizer),
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "rope_parameters": {"rope_type": "default", "mrope_section": [2, 1, 1]},
        "bos_token_id": None,
        "eos_token_id": tokenizer.eos_token_id,
    }
    vision = {
        **shared,
        "depth": 1,
        "num_heads": 2,
        "out_hidden_size": tiny.WIDTH,
        "fullatt_block_indexes": [0],
    }
    config = Qwen2_5_VLConfig(
        text_config=text,
        vision_config=vision,
        image_token_id=tokenizer.convert_tokens_to_ids("<|image_pad|>"),
        video_token_id=tokenizer.convert_tokens_to_ids("<|video_pad|>"),
        vision_start_token_id=tokenizer.convert_tokens_to_ids("<|vision_start|>"),
        vision_end_token_id=tokenizer.convert_tokens_to_ids("<|vision_end|>"),
    )
    return Qwen2_5_VLForConditionalGeneration(config)


def tiny_pipeline(zero_cond_t: bool = False, **scheduler: Any) -> QwenImageEditPlusPipeline:
    """A pipeline with a VAE of scale 4, hence tokens of 8×8 pixels.

    Args:
        zero_cond_t: As 2511: references are modulated as images without noise.
    """
    torch.manual_seed(0)
    transformer = QwenImageTransformer2DModel(
        in_channels=16,
        out_channels=4,
        num_layers=2,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=tiny.WIDTH,
        axes_dims_rope=(4, 6, 6),
        zero_cond_t=zero_cond_t,
    )
    torch.nn.init.normal_(transformer.proj_out.weight, std=0.3)  # as strong as a trained one
    tokenizer = tiny_tokenizer()
    pipeline = QwenImageEditPlusPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(**(scheduler or DYNAMIC)),
        vae=AutoencoderKLQwenImage(**VAE),
        text_encoder=tiny_text_encoder(),
        tokenizer=tokenizer,
        processor=Qwen2VLProcessor(Qwen2VLImageProcessorPil(), tokenizer),
        transformer=transformer,
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def make_policy(
    dtype: torch.dtype = torch.float32,
    pipeline: QwenImageEditPlusPipeline | None = None,
    **options: Any,
) -> QwenImageEditPolicy:
    pipeline = (pipeline or tiny_pipeline()).to(dtype)
    areas = {"reference_area": AREA, "condition_area": AREA}
    return QwenImageEditPolicy(pipeline, HEIGHT, WIDTH, **{**areas, **options})


def stock(policy: QwenImageEditPolicy, task: Task, steps: int, seed: int, **call: Any) -> Any:
    """Latents, or what ``output_type`` says; the areas are constants of stock's module."""
    with (
        patch.object(edit_plus, "VAE_IMAGE_SIZE", policy.reference_area),
        patch.object(edit_plus, "CONDITION_IMAGE_SIZE", policy.condition_area),
    ):
        return policy.pipeline(
            image=list(task.references),
            prompt=task.prompt,
            negative_prompt=policy.guidance.negative_prompt if policy.guidance.enabled else None,
            true_cfg_scale=policy.guidance.scale,
            height=HEIGHT,
            width=WIDTH,
            num_inference_steps=steps,
            generator=torch.Generator().manual_seed(seed),
            **{"output_type": "latent", **call},
        ).images


def save(folder: Path) -> list[str]:
    tiny_pipeline().save_pretrained(folder / "qwen")
    return [
        f"policy.model={folder / 'qwen'}",
        f"policy.height={HEIGHT}",
        f"policy.width={WIDTH}",
        f"policy.reference_area={AREA}",
        f"policy.condition_area={AREA}",
    ]


FAMILY = Family(
    name="Qwen-Image-Edit Plus",
    kind="qwen-image-edit",
    recipe="qwen-edit",
    pipeline=tiny_pipeline,
    policy=make_policy,
    stock=stock,
    save=save,
    max_references=2,
)
