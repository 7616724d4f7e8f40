"""FLUX.2 klein, tiny: real classes, a VAE of the real scale, and Qwen3's chat template in short."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import tiny
import torch
from diffusers import (
    AutoencoderKLFlux2,
    FlowMatchEulerDiscreteScheduler,
    Flux2KleinPipeline,
    Flux2Transformer2DModel,
)
from policies.families import Family
from torch import Tensor
from transformers import Qwen2TokenizerFast, Qwen3Config, Qwen3ForCausalLM

from likewise.policies.flux2_klein import Flux2KleinPolicy
from likewise.types import Task

HEIGHT, WIDTH = 32, 48  # pixels: 2×3 tokens
TEXT_LENGTH = 32  # the template alone takes 16
CHAT = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n"
    "{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if enable_thinking is false %}<think>\n\n</think>\n\n{% endif %}{% endif %}"
)


@cache
def tiny_tokenizer() -> Qwen2TokenizerFast:
    words = f"user assistant {tiny.PROMPT}"
    vocabulary, merges = tiny.word_vocabulary(Qwen2TokenizerFast(), words)
    tokenizer = Qwen2TokenizerFast(
        vocab=vocabulary,
        merges=merges,
        extra_special_tokens=["<|im_start|>", "<|im_end|>", "<think>", "</think>"],
    )
    tokenizer.chat_template = CHAT
    return tokenizer


def tiny_text_encoder() -> Qwen3ForCausalLM:
    """28 layers, because the pipeline stacks the states after layers 9, 18 and 27."""
    config = Qwen3Config(
        vocab_size=len(tiny_tokenizer()),
        hidden_size=tiny.WIDTH,
        intermediate_size=tiny.WIDTH,
        num_hidden_layers=28,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=8,
        initializer_range=0.5,
    )
    return Qwen3ForCausalLM(config)


def tiny_pipeline(is_distilled: bool = False, **scheduler: Any) -> Flux2KleinPipeline:
    """A pipeline with a VAE of scale 8, hence tokens of 16×16 pixels, as the real one."""
    torch.manual_seed(0)
    transformer = Flux2Transformer2DModel(
        in_channels=16,
        num_layers=1,
        num_single_layers=2,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=3 * tiny.WIDTH,
        axes_dims_rope=(4, 4, 4, 4),
        guidance_embeds=False,
    )
    torch.nn.init.normal_(transformer.proj_out.weight, std=0.3)  # as strong as a trained one
    vae = AutoencoderKLFlux2(
        block_out_channels=(4, 4, 8, 8),
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=4,
        mid_block_add_attention=False,  # so that a megapixel costs little
    )
    vae.bn.running_mean.normal_()  # mean 0 and variance 1 would hide a forgotten normalisation
    vae.bn.running_var.uniform_(0.5, 2.0)
    settings = scheduler or {"shift": 3.0, "use_dynamic_shifting": True}
    pipeline = Flux2KleinPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(**settings),
        vae=vae,
        text_encoder=tiny_text_encoder(),
        tokenizer=tiny_tokenizer(),
        transformer=transformer,
        is_distilled=is_distilled,
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def make_policy(
    dtype: torch.dtype = torch.float32,
    pipeline: Flux2KleinPipeline | None = None,
    **options: Any,
) -> Flux2KleinPolicy:
    pipeline = (pipeline or tiny_pipeline()).to(dtype)
    return Flux2KleinPolicy(
        pipeline, HEIGHT, WIDTH, **{"max_sequence_length": TEXT_LENGTH, **options}
    )


def stock(policy: Flux2KleinPolicy, task: Task, steps: int, seed: int, **call: Any) -> Tensor:
    """Tokens after the last step, before the pipeline undoes packing and normalisation."""
    last: list[Tensor] = []

    def keep(_: Any, step: int, time: Tensor, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        last[:] = [tensors["latents"]]
        return tensors

    options = {
        "image": list(task.references),
        "guidance_scale": policy.guidance.scale,
        "generator": torch.Generator().manual_seed(seed),
        "max_sequence_length": policy.max_sequence_length,
        **call,
    }
    policy.pipeline(
        prompt=task.prompt,
        height=HEIGHT,
        width=WIDTH,
        num_inference_steps=steps,
        output_type="latent",
        callback_on_step_end=keep,
        **options,
    )
    return last[0]


def save(folder: Path) -> list[str]:
    tiny_pipeline().save_pretrained(folder / "klein")
    return [
        f"policy.model={folder / 'klein'}",
        f"policy.height={HEIGHT}",
        f"policy.width={WIDTH}",
        f"policy.max_sequence_length={TEXT_LENGTH}",
    ]


FAMILY = Family(
    name="FLUX.2 klein",
    kind="flux2-klein",
    recipe="klein-4b",
    pipeline=tiny_pipeline,
    policy=make_policy,
    stock=stock,
    save=save,
    smallest_reference=64,
    max_references=Flux2KleinPolicy.max_references,
)
