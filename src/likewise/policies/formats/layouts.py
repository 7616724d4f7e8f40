"""A LoRA under other programs' names: renamed, and fused where they fuse modules.

W x becomes W x + (alpha / rank)·up·down·x, with down [rank, in, …] and up [out, rank, …]. Where a
program keeps several of diffusers' modules as one (q, k and v, say), their downs are stacked and
their ups put on a block diagonal: rank and alpha both grow by the number of parts, the scale
stays, and the sum is exact in every bit.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

_PEFT = re.compile(r"(.+)\.lora_(A|B)\.weight")


@dataclass(frozen=True)
class Counterpart:
    """The module of another program that corresponds to one of diffusers'.

    Attributes:
        name: Of the module, in that program.
        slot: Which part of it, where it is several of diffusers' modules fused into one.
        rows: Rows of each part, as multiples of the input width; () if nothing is fused.
    """

    name: str
    slot: int = 0
    rows: tuple[int, ...] = ()


@dataclass(frozen=True)
class Layout:
    """How a program names a LoRA's tensors.

    Attributes:
        counterpart: From a module of diffusers. Raises ValueError where there is none.
        stock: Whether diffusers' own ``load_lora_weights`` reads it, at the right scale.
    """

    prefix: str
    counterpart: Callable[[str], Counterpart]
    down: str = "lora_down"
    up: str = "lora_up"
    stock: bool = True


def by_module(weights: Mapping[str, Tensor]) -> dict[str, tuple[Tensor, Tensor]]:
    """Module → (down, up), from PEFT's keys without the denoiser's name in front.

    Raises:
        ValueError: a key is not a LoRA's, or half of a module is missing.
    """
    found: dict[str, dict[str, Tensor]] = {}
    for key, tensor in weights.items():
        match = _PEFT.fullmatch(key)
        if match is None:
            raise ValueError(f"{key} is not a LoRA's: expected MODULE.lora_A.weight or .lora_B.")
        found.setdefault(match[1], {})[match[2]] = tensor
    for module, halves in found.items():
        if len(halves) < 2:
            raise ValueError(f"{module} has lora_{next(iter(halves))} only: its other half is lost")
    return {module: (halves["A"], halves["B"]) for module, halves in found.items()}


def convert(weights: Mapping[str, Tensor], alpha: float, layout: Layout) -> dict[str, Tensor]:
    """PEFT's tensors in another layout, with an alpha tensor for each module.

    Args:
        alpha: Of every module of `weights`.

    Raises:
        ValueError: a key is not a LoRA's, or a module has no counterpart in the layout.
    """
    parts: dict[str, list[tuple[Counterpart, Tensor, Tensor]]] = {}
    for module, (down, up) in by_module(weights).items():
        counterpart = layout.counterpart(module)
        parts.setdefault(counterpart.name, []).append((counterpart, down, up))
    converted = {}
    for name, group in parts.items():
        down, up = _fused(sorted(group, key=lambda part: part[0].slot))
        key = layout.prefix + name
        converted[f"{key}.{layout.down}.weight"] = down.contiguous()
        converted[f"{key}.{layout.up}.weight"] = up.contiguous()
        converted[f"{key}.alpha"] = torch.tensor(float(alpha * len(group)))
    return converted


def restore(
    tensors: Mapping[str, Tensor], modules: Iterable[str], layout: Layout
) -> dict[str, Tensor]:
    """PEFT's tensors again, the scale multiplied into lora_B: for layouts that stock cannot read.

    A part of a fused module gets the whole of its down, and its own rows of the up.

    Raises:
        KeyError: a module is missing.
    """
    restored = {}
    for module in modules:
        counterpart = layout.counterpart(module)
        key = layout.prefix + counterpart.name
        down, up = tensors[f"{key}.{layout.down}.weight"], tensors[f"{key}.{layout.up}.weight"]
        scale = tensors[f"{key}.alpha"] / len(down)
        restored[f"{module}.lora_A.weight"] = down
        restored[f"{module}.lora_B.weight"] = up[part_rows(counterpart, down)] * scale
    return restored


def _fused(parts: list[tuple[Counterpart, Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """Down and up of all parts of one module; rows of parts that have no LoRA stay 0."""
    counterpart, down, up = parts[0]
    if not counterpart.rows:
        return down, up
    rank = sum(len(down) for _, down, _ in parts)
    whole = up.new_zeros(sum(counterpart.rows) * down.shape[1], rank)
    first = 0
    for counterpart, down, up in parts:
        whole[part_rows(counterpart, down), first : first + len(down)] = up
        first += len(down)
    return torch.cat([down for _, down, _ in parts]), whole


def part_rows(counterpart: Counterpart, down: Tensor) -> slice:
    """Which rows of a fused module's `up` are those of one part; all where nothing is fused."""
    if not counterpart.rows:
        return slice(None)
    width, slot = down.shape[1], counterpart.slot
    start = sum(counterpart.rows[:slot]) * width
    return slice(start, start + counterpart.rows[slot] * width)


Config = Mapping[str, Any]  # of the denoiser, as diffusers keeps it


@dataclass(frozen=True)
class Family:
    """One family.

    Attributes:
        kohya: As sd-scripts or musubi-tuner write it.
        comfyui: As ComfyUI reads it.
        network_module: kohya's name of the code that trains such a LoRA.
        base_model: kohya's name of the base model; None where there is none that is surely right.
        architecture: ModelSpec's name of the base model; None likewise.
    """

    kohya: Layout
    comfyui: Layout
    network_module: str
    base_model: str | None = None
    architecture: str | None = None
