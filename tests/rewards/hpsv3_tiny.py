"""A tiny HPSv3 in the published files' formats: base folder and checkpoint, from no random numbers.

Everything here is made of closed formulas and knows neither likewise nor transformers, so that the
original code (``hpsv3`` 1.0.0 on transformers 4.45.2) can be run on the very same model.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor

Shapes = dict[str, tuple[int, ...]]

# In the published order: their ids follow the vocabulary's.
SPECIAL = (
    *("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|object_ref_start|>", "<|object_ref_end|>"),
    *("<|box_start|>", "<|box_end|>", "<|quad_start|>", "<|quad_end|>", "<|vision_start|>"),
    *("<|vision_end|>", "<|vision_pad|>", "<|image_pad|>", "<|video_pad|>"),
)
WORDS = (
    "a red duck teapot in on the snow beach wooden floor of and or any to for is be with as it "
    "text image should prompt overall description Evaluate elements dimensions content subject "
    "attributes start assistant generated Alignment The following Relevance Assess clothing "
    "artistic Reasonableness contradictions Quality provide quality contain environmental "
    "inappropriate textual whether satisfaction vision Visual Please visual significant "
    "nonsensical composition Consistency surrounding environment accessories expressions "
    "represented evaluating preference considered biological such structures visibility Creativity "
    "atmosphere accurately appearance particular Contextual background faithfully deviations "
    "acceptable are score"
)
CHAT = (  # one message with an image and a text becomes what the published template makes of it
    "{% for message in messages %}{% if loop.first and message['role'] != 'system' %}<|im_start|>"
    "system\nYou are a helpful assistant.<|im_end|>\n{% endif %}<|im_start|>{{ message['role'] }}\n"
    "{% for part in message['content'] %}{% if part['type'] == 'image' %}"
    "<|vision_start|><|image_pad|><|vision_end|>{% elif 'text' in part %}{{ part['text'] }}"
    "{% endif %}{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@dataclass(frozen=True)
class Size:
    """Numbers of a Qwen2-VL configuration that decide which tensors it has."""

    vocabulary: int
    layers: int
    hidden: int
    intermediate: int
    heads: int
    key_heads: int
    blocks: int
    vision: int
    vision_heads: int

    def shapes(self) -> Shapes:
        """Every tensor of a published checkpoint, under transformers 4.45's names."""
        word = (self.vocabulary, self.hidden)
        return {
            "model.embed_tokens.weight": word,
            **{f"model.layers.{n}.{k}": s for n in range(self.layers) for k, s in self._layer()},
            "model.norm.weight": (self.hidden,),
            "lm_head.weight": word,
            "visual.patch_embed.proj.weight": (self.vision, 3, 2, 14, 14),
            **{f"visual.blocks.{n}.{k}": s for n in range(self.blocks) for k, s in self._block()},
            **_with_bias("visual.merger.ln_q", self.vision),
            **_with_bias("visual.merger.mlp.0", 4 * self.vision, 4 * self.vision),
            **_with_bias("visual.merger.mlp.2", self.hidden, 4 * self.vision),
            **_with_bias("rm_head.0", 1024, self.hidden),
            **_with_bias("rm_head.3", 16, 1024),
            **_with_bias("rm_head.5", 2, 16),
        }

    def _layer(self) -> list[tuple[str, tuple[int, ...]]]:
        hidden, keys = self.hidden, self.hidden // self.heads * self.key_heads
        mlp = (self.intermediate, hidden)
        shapes = {
            "input_layernorm.weight": (hidden,),
            **_with_bias("self_attn.q_proj", hidden, hidden),
            **_with_bias("self_attn.k_proj", keys, hidden),
            **_with_bias("self_attn.v_proj", keys, hidden),
            "self_attn.o_proj.weight": (hidden, hidden),
            "post_attention_layernorm.weight": (hidden,),
            "mlp.gate_proj.weight": mlp,
            "mlp.up_proj.weight": mlp,
            "mlp.down_proj.weight": mlp[::-1],
        }
        return list(shapes.items())

    def _block(self) -> list[tuple[str, tuple[int, ...]]]:
        width = self.vision
        shapes = {
            **_with_bias("norm1", width),
            **_with_bias("norm2", width),
            **_with_bias("attn.qkv", 3 * width, width),
            **_with_bias("attn.proj", width, width),
            **_with_bias("mlp.fc1", 4 * width, width),
            **_with_bias("mlp.fc2", width, 4 * width),
        }
        return list(shapes.items())


def _with_bias(name: str, out: int, *inward: int) -> Shapes:
    return {f"{name}.weight": (out, *inward), f"{name}.bias": (out,)}


def vocabulary() -> tuple[dict[str, int], list[str]]:
    """Vocabulary and merges of a byte-level BPE that knows WORDS, bare and after a space."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    letters = [*map(chr, printable), *(chr(256 + index) for index in range(len(others)))]
    space = chr(256 + others.index(32))
    merges: dict[str, None] = {}
    for word in sorted(WORDS.split(), key=len, reverse=True):
        for spelt in (word, space + word):
            for end in range(1, len(spelt)):
                merges[f"{spelt[:end]} {spelt[end]}"] = None
    tokens = dict.fromkeys([*letters, *(merge.replace(" ", "") for merge in merges)])
    return {token: index for index, token in enumerate(tokens)}, list(merges)


FIRST_SPECIAL = len(vocabulary()[0])
TINY = Size(FIRST_SPECIAL + len(SPECIAL) + 1, 3, 64, 96, 4, 2, 2, 32, 2)


def write_base(folder: Path) -> Path:
    """Configuration, tokenizer, image processor and chat template, as in the published folder."""
    folder.mkdir(parents=True, exist_ok=True)
    tokens, merges = vocabulary()
    added = {
        str(FIRST_SPECIAL + index): {
            "content": token,
            **dict.fromkeys(("lstrip", "normalized", "rstrip", "single_word"), False),
            "special": True,
        }
        for index, token in enumerate(SPECIAL)
    }
    _write(folder / "vocab.json", tokens)
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n", "utf-8")
    _write(
        folder / "tokenizer_config.json",
        {
            "add_prefix_space": False,
            "added_tokens_decoder": added,
            "additional_special_tokens": SPECIAL[1:],
            "chat_template": CHAT,
            "clean_up_tokenization_spaces": False,
            "eos_token": "<|im_end|>",
            "errors": "replace",
            "model_max_length": 32768,
            "pad_token": "<|endoftext|>",
            "tokenizer_class": "Qwen2Tokenizer",
        },
    )
    _write(folder / "chat_template.json", {"chat_template": CHAT})
    _write(
        folder / "preprocessor_config.json",
        {
            "min_pixels": 3136,
            "max_pixels": 12845056,
            "patch_size": 14,
            "temporal_patch_size": 2,
            "merge_size": 2,
            "image_mean": [0.48145466, 0.4578275, 0.40821073],
            "image_std": [0.26862954, 0.26130258, 0.27577711],
            "image_processor_type": "Qwen2VLImageProcessor",
            "processor_class": "Qwen2VLProcessor",
        },
    )
    _write(folder / "config.json", configuration(TINY))
    return folder


def configuration(size: Size) -> dict[str, Any]:
    """In transformers 4.45's flat layout; its vocabulary is larger than the tokenizer's."""
    return {
        "architectures": ["Qwen2VLForConditionalGeneration"],
        "model_type": "qwen2_vl",
        "hidden_act": "silu",
        "hidden_size": size.hidden,
        "intermediate_size": size.intermediate,
        "num_attention_heads": size.heads,
        "num_hidden_layers": size.layers,
        "num_key_value_heads": size.key_heads,
        "max_window_layers": size.layers,
        "max_position_embeddings": 32768,
        "rms_norm_eps": 1e-6,
        "rope_theta": 1000000.0,
        "rope_scaling": {"type": "mrope", "mrope_section": [2, 3, 3]},
        "sliding_window": 32768,
        "use_sliding_window": False,
        "tie_word_embeddings": False,
        "vocab_size": size.vocabulary + 40,
        "bos_token_id": special("<|endoftext|>"),
        "eos_token_id": special("<|im_end|>"),
        "vision_start_token_id": special("<|vision_start|>"),
        "vision_end_token_id": special("<|vision_end|>"),
        "vision_token_id": special("<|vision_pad|>"),
        "image_token_id": special("<|image_pad|>"),
        "video_token_id": special("<|video_pad|>"),
        "vision_config": {
            "depth": size.blocks,
            "embed_dim": size.vision,
            "mlp_ratio": 4,
            "num_heads": size.vision_heads,
            "in_chans": 3,
            "hidden_size": size.hidden,
            "patch_size": 14,
            "spatial_merge_size": 2,
            "spatial_patch_size": 14,
            "temporal_patch_size": 2,
        },
    }


def special(token: str) -> int:
    return FIRST_SPECIAL + (*SPECIAL, "<|Reward|>").index(token)


def _write(file: Path, content: object) -> None:
    file.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")


def weights(size: Size = TINY) -> dict[str, Tensor]:
    """Weights of a published checkpoint, float32 with values of bfloat16, as strong as trained."""
    return {name: _values(name, shape) for name, shape in size.shapes().items()}


def _values(name: str, shape: tuple[int, ...]) -> Tensor:
    count = math.prod(shape)
    mixed = np.arange(count, dtype=np.uint64) + np.uint64(crc32(name.encode()) << 20)
    for factor in (0xBF58476D1CE4E5B9, 0x94D049BB133111EB):  # splitmix64's
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(factor)
    even = (mixed >> np.uint64(40)).astype(np.float64) / 2**23 - 1  # in [-1, 1)
    values = torch.from_numpy(even).reshape(shape)
    if re.search(r"norm.*weight|ln_q\.weight", name):
        values = 1 + 0.3 * values
    elif name.endswith("bias"):
        values = 0.4 * values
    else:
        gain = 2.0 if re.search("q_proj|k_proj|qkv", name) else 1.2
        inward = 1 if "embed_tokens" in name else count // shape[0]
        values = gain * values * math.sqrt(3 / inward)
    return values.bfloat16().float()


def write_checkpoint(file: Path, tensors: dict[str, Tensor] | None = None) -> Path:
    save_file(weights() if tensors is None else tensors, file)
    return file


def make_image(width: int, height: int, kind: int = 0) -> Image.Image:
    """Coloured waves and a hard edge."""
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    waves = [(x * (3 + kind) + y * (c + 2)) // (2 + c) % 256 for c in range(3)]
    pixels = np.stack(waves, axis=2).astype(np.uint8)
    pixels[: height // 3, width // 2 :] = (200, 40 + 30 * (kind % 7), 90)
    return Image.fromarray(pixels)


# What golden values are about: three shapes, so that a batch is padded both ways.
IMAGES = (make_image(96, 64), make_image(300, 480, 1), make_image(500, 120, 2))
PROMPTS = ("a red duck", "a teapot on the wooden floor, in the snow: très {bon}", "the beach ")
