"""Tiny, randomly initialised pipelines of the real diffusers and transformers classes.

For tests of every package: ``from tiny import make_policy, a_task``.
"""

from __future__ import annotations

from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from diffusers import (
    AutoencoderKL,
    FlowMatchEulerDiscreteScheduler,
    FluxKontextPipeline,
    FluxTransformer2DModel,
)
from PIL import Image
from tokenizers import pre_tokenizers
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTokenizer,
    PreTrainedTokenizerFast,
    T5Config,
    T5EncoderModel,
    T5TokenizerFast,
)

from likewise.policies.flux_kontext import FluxKontextPolicy
from likewise.types import Task

PROMPT = "a red blue duck teapot in on the snow beach wooden floor"  # every word in use
WIDTH = 16
HEIGHT_PIXELS, WIDTH_PIXELS = 16, 24  # not square: rows and columns must not be mixed up
TEXT_LENGTH = 8


def word_vocabulary(
    tokenizer: PreTrainedTokenizerFast, *texts: str, end: str = ""
) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Tokens and merges for a byte-level BPE to which every word of `texts` is one token.

    Training, which would find them too, breaks ties by chance.

    Args:
        tokenizer: Without a vocabulary: splits texts into words.
        end: What a word's last piece has behind it.
    """
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = dict.fromkeys([*alphabet, *(letter + end for letter in alphabet)])
    ranks: dict[tuple[str, str], int] = {}
    split = tokenizer.backend_tokenizer.pre_tokenizer.pre_tokenize_str
    for word in (word for text in texts for word, _ in split(text)):
        pieces = [*word[:-1], word[-1] + end]
        while len(pieces) > 1:
            pairs = list(pairwise(pieces))
            i = min(range(len(pairs)), key=lambda i: ranks.get(pairs[i], len(ranks) + i))
            ranks.setdefault(pairs[i], len(ranks))
            pieces[i : i + 2] = ["".join(pairs[i])]
            tokens[pieces[i]] = None
    return {token: number for number, token in enumerate(tokens)}, list(ranks)


@cache
def tiny_tokenizers() -> tuple[CLIPTokenizer, T5TokenizerFast]:
    vocabulary, merges = word_vocabulary(CLIPTokenizer(), PROMPT, end="</w>")
    clip = CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=12)
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)]
    words = [(f"\u2581{word}", -2.0) for word in PROMPT.split()]
    return clip, T5TokenizerFast(vocab=pieces + words, extra_ids=0)


def tiny_text_parts() -> dict[str, Any]:
    clip_tokens, t5_tokens = tiny_tokenizers()
    clip = CLIPTextConfig(
        vocab_size=len(clip_tokens),
        hidden_size=WIDTH,
        intermediate_size=WIDTH,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=12,
        projection_dim=WIDTH,
        bos_token_id=clip_tokens.bos_token_id,
        eos_token_id=clip_tokens.eos_token_id,
        initializer_range=0.5,
    )
    t5 = T5Config(
        vocab_size=len(t5_tokens), d_model=WIDTH, d_kv=8, d_ff=WIDTH, num_layers=1, num_heads=2
    )
    return {
        "tokenizer": clip_tokens,
        "text_encoder": CLIPTextModel(clip),
        "tokenizer_2": t5_tokens,
        "text_encoder_2": T5EncoderModel(t5),
    }


def tiny_pipeline(guidance_embeds: bool = False, **scheduler: Any) -> FluxKontextPipeline:
    """A pipeline with a VAE of scale 2, hence tokens of 4×4 pixels."""
    torch.manual_seed(0)
    transformer = FluxTransformer2DModel(
        in_channels=16,
        num_layers=1,
        num_single_layers=2,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=WIDTH,
        pooled_projection_dim=WIDTH,
        guidance_embeds=guidance_embeds,
        axes_dims_rope=(4, 6, 6),
    )
    torch.nn.init.normal_(transformer.proj_out.weight, std=0.3)  # as strong as a trained one
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(8, 8),
        latent_channels=4,
        norm_num_groups=4,
        use_quant_conv=False,
        use_post_quant_conv=False,
        scaling_factor=0.36,
        shift_factor=0.12,
    )
    settings = scheduler or {"shift": 3.0}
    return FluxKontextPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(**settings),
        vae=vae,
        transformer=transformer,
        **tiny_text_parts(),
    )


def photo(height: int, width: int, seed: int = 0) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def a_task(prompt: str = "a red duck", reference: Image.Image | None = None) -> Task:
    return Task(
        id=f"{prompt}!",
        prompt=prompt,
        class_name="duck",
        subject="duck",
        category="bird",
        kind="scene",
        complexity=1,
        reference=reference or photo(21, 14),  # is rounded down to 20×12
    )


def make_policy(
    dtype: torch.dtype = torch.float32,
    guidance_embeds: bool = False,
    scheduler: dict[str, Any] | None = None,
    **options: Any,
) -> FluxKontextPolicy:
    """A policy that draws 16×24 pixels, on :func:`tiny_pipeline`; equal calls, equal weights."""
    pipeline = tiny_pipeline(guidance_embeds, **(scheduler or {})).to(dtype)
    pipeline.set_progress_bar_config(disable=True)
    return FluxKontextPolicy(pipeline, HEIGHT_PIXELS, WIDTH_PIXELS, TEXT_LENGTH, **options)
