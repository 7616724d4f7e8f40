"""HPSv3 written out: Qwen2-VL and the head in plain tensor operations, one image at a time.

Follows the papers (Qwen2-VL 2409.12191, RoFormer 2104.09864, RMSNorm 1910.07467, HPSv3 2508.03789)
and the published checkpoint's names; uses no model class of any library.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from hpsv3_tiny import Size
from PIL import Image
from torch import Tensor

Weights = dict[str, Tensor]
MEAN = torch.tensor([0.48145466, 0.4578275, 0.40821073])
STD = torch.tensor([0.26862954, 0.26130258, 0.27577711])


def score(w: Weights, size: Size, image: Image.Image, ids: Tensor, pad: int, end: int) -> Tensor:
    """μ and log σ [2] of an image of sides that are multiples of 28, and token ids [L].

    `pad` is the token that stands for a piece of the image, `end` the one that is scored.
    """
    x = w["model.embed_tokens.weight"][ids]
    x[ids == pad] = see(w, size, image)
    hidden = read(w, size, x)[ids == end][0]
    for layer in ("rm_head.0", "rm_head.3"):
        hidden = linear(w, layer, hidden).clamp(min=0)
    return linear(w, "rm_head.5", hidden)


def see(w: Weights, size: Size, image: Image.Image) -> Tensor:
    """One token per 2×2 patches of 14×14 pixels [N, hidden], row by row."""
    pixels = (torch.from_numpy(np.array(image)).float() / 255 - MEAN) / STD
    rows, columns = pixels.shape[0] // 14, pixels.shape[1] // 14
    grid = [(2 * r + i, 2 * c + j) for r in range(rows // 2) for c in range(columns // 2)
            for i in range(2) for j in range(2)]  # fmt: skip
    patches = torch.stack([pixels[14 * r : 14 * r + 14, 14 * c : 14 * c + 14] for r, c in grid])
    frames = patches.permute(0, 3, 1, 2)[:, :, None].expand(-1, -1, 2, -1, -1)  # the same, twice
    x = frames.reshape(len(grid), -1) @ w["visual.patch_embed.proj.weight"].flatten(1).T

    width = size.vision // size.vision_heads
    f = rounded_frequencies(10_000.0, width // 2)
    angles = torch.stack([torch.cat([r * f, c * f]) for r, c in grid])  # [N, width / 2]
    for n in range(size.blocks):
        block = f"visual.blocks.{n}"
        q, k, v = (
            part.unflatten(1, (size.vision_heads, width)).transpose(0, 1)
            for part in linear(w, f"{block}.attn.qkv", normed(w, f"{block}.norm1", x)).chunk(3, 1)
        )
        seen = attend(turned(q, angles), turned(k, angles), v)
        x = x + linear(w, f"{block}.attn.proj", seen.transpose(0, 1).flatten(1))
        inner = linear(w, f"{block}.mlp.fc1", normed(w, f"{block}.norm2", x))
        x = x + linear(w, f"{block}.mlp.fc2", inner * torch.sigmoid(1.702 * inner))
    merged = normed(w, "visual.merger.ln_q", x).reshape(len(grid) // 4, -1)
    inner = linear(w, "visual.merger.mlp.0", merged)
    inner = inner * (1 + torch.erf(inner / math.sqrt(2))) / 2
    return linear(w, "visual.merger.mlp.2", inner)


def read(w: Weights, size: Size, x: Tensor) -> Tensor:
    """Last hidden states [L, hidden] of embeddings [L, hidden] that stand in a line."""
    length, width = len(x), size.hidden // size.heads
    angles = torch.arange(length)[:, None] * rounded_frequencies(1_000_000.0, width)
    later = torch.full((length, length), -math.inf).triu(1)
    for n in range(size.layers):
        layer = f"model.layers.{n}"
        y = scaled(w, f"{layer}.input_layernorm", x)
        q, k, v = (
            linear(w, f"{layer}.self_attn.{one}_proj", y).unflatten(1, (-1, width)).transpose(0, 1)
            for one in "qkv"
        )
        shared = [head * size.key_heads // size.heads for head in range(size.heads)]
        heard = attend(turned(q, angles), turned(k, angles)[shared], v[shared], later)
        heads = heard.transpose(0, 1).flatten(1)
        x = x + heads @ w[f"{layer}.self_attn.o_proj.weight"].T
        y = scaled(w, f"{layer}.post_attention_layernorm", x)
        gate = y @ w[f"{layer}.mlp.gate_proj.weight"].T
        up = y @ w[f"{layer}.mlp.up_proj.weight"].T
        x = x + (gate * torch.sigmoid(gate) * up) @ w[f"{layer}.mlp.down_proj.weight"].T
    return scaled(w, "model.norm", x)


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | float = 0.0) -> Tensor:
    """[heads, L, width] of queries, keys and values of that shape."""
    return torch.softmax(q @ k.transpose(1, 2) / math.sqrt(q.shape[-1]) + mask, dim=-1) @ v


def turned(x: Tensor, angles: Tensor) -> Tensor:
    """x [heads, L, width] with pair (i, i + width / 2) of token t turned by angles[t, i]."""
    first, second = x.chunk(2, dim=-1)
    cos, sin = angles.cos(), angles.sin()
    return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)


def rounded_frequencies(theta: float, width: int) -> Tensor:
    """As the published model has them: in bfloat16."""
    exact = [theta ** (-2 * i / width) for i in range(width // 2)]
    return torch.tensor(exact).bfloat16().float()


def linear(w: Weights, name: str, x: Tensor) -> Tensor:
    return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]


def normed(w: Weights, name: str, x: Tensor) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    deviation = (centred.square().mean(-1, keepdim=True) + 1e-6).sqrt()
    return centred / deviation * w[f"{name}.weight"] + w[f"{name}.bias"]


def scaled(w: Weights, name: str, x: Tensor) -> Tensor:
    return x / (x.square().mean(-1, keepdim=True) + 1e-6).sqrt() * w[f"{name}.weight"]
