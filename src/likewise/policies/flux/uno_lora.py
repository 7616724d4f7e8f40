"""UNO's published LoRA on diffusers' FLUX transformer: merged into its weights, or kept beside.

The file (Wu et al., 2504.02160) names layers as Black Forest Labs' own code does: one fused layer
for q, k and v, and no alpha, so the scale is 1. A fused layer's `up` [3·D, r] falls into three
parts; its `down` [r, D] serves all three, since q, k and v read the same input (docs/method.md §4).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import FluxTransformer2DModel
from torch import Tensor, nn
from torch.nn.functional import linear

from likewise import tensors
from likewise.hub import weights_file

RANK = 512  # of the published file
BLOCKS = {"double_blocks": "transformer_blocks", "single_blocks": "single_transformer_blocks"}
LAYERS = {  # the published name of a block's layer, and the parts of it in diffusers
    "double_blocks": {
        "qkv_lora1": ("attn.to_q", "attn.to_k", "attn.to_v"),  # 1: the stream of the image
        "proj_lora1": ("attn.to_out.0",),
        "qkv_lora2": ("attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj"),  # 2: the text's
        "proj_lora2": ("attn.to_add_out",),
    },
    "single_blocks": {
        "qkv_lora": ("attn.to_q", "attn.to_k", "attn.to_v"),
        "proj_lora": ("proj_out",),  # on [attention | MLP]
    },
}


@dataclass(frozen=True)
class Update:
    """What a linear layer's weight gains: `up` [out, r] times `down` [r, in]."""

    down: Tensor
    up: Tensor


def read(file: str | Path) -> dict[str, Tensor]:
    """Weights of a local safetensors file, or of a Hub file named owner/repository/file.

    Raises:
        ValueError: the file is missing or damaged, or a number in it is not finite.
    """
    try:
        return tensors.load(weights_file(file, "uno_lora"))
    except ValueError as error:
        problem = str(error).removeprefix("uno_lora: ")
        raise ValueError(f"uno_lora: {problem}") from error


def convert(
    weights: Mapping[str, Tensor], transformer: FluxTransformer2DModel
) -> dict[str, Update]:
    """The update of each of `transformer`'s modules, by name; every weight is used, none missing.

    Raises:
        ValueError: a weight is missing, unknown, or of the wrong shape; the first one is named.
    """
    layers = dict(_layers(transformer))
    wanted = {f"{layer}.{half}.weight" for layer in layers for half in ("down", "up")}
    odd = sorted(wanted ^ weights.keys())
    if odd:
        problem = "lacks" if odd[0] in wanted else "has, and this transformer has no place for,"
        raise ValueError(f"UNO's LoRA {problem} {odd[0]} ({len(odd)} such keys)")
    updates: dict[str, Update] = {}
    for layer, modules in layers.items():
        down, up = weights[f"{layer}.down.weight"], weights[f"{layer}.up.weight"]
        linears = [transformer.get_submodule(module) for module in modules]
        for half, found, size in (
            ("down", down, (len(down), linears[0].in_features)),
            ("up", up, (sum(one.out_features for one in linears), len(down))),
        ):
            if found.shape != size:
                raise ValueError(
                    f"UNO's LoRA has {layer}.{half}.weight of shape {list(found.shape)}, "
                    f"but this transformer needs {list(size)}"
                )
        parts = up.split([one.out_features for one in linears])
        updates |= {module: Update(down, part) for module, part in zip(modules, parts, strict=True)}
    return updates


def blank_updates(transformer: FluxTransformer2DModel, rank: int = RANK) -> dict[str, Update]:
    """Zeros in the shapes of such a file, for plans."""
    updates: dict[str, Update] = {}
    for _, modules in _layers(transformer):
        linears = {name: transformer.get_submodule(name) for name in modules}
        down = torch.zeros(rank, linears[modules[0]].in_features)
        updates |= {
            name: Update(down, torch.zeros(one.out_features, rank)) for name, one in linears.items()
        }
    return updates


@torch.no_grad()
def merge(transformer: FluxTransformer2DModel, updates: Mapping[str, Update]) -> None:
    """Add each update to the weight itself; computed in float32 and rounded once.

    Raises:
        ValueError: a weight is quantised.
    """
    for name, update in updates.items():
        layer = transformer.get_submodule(name)
        if type(layer) is not nn.Linear or type(layer.weight) is not nn.Parameter:
            raise ValueError(
                f"UNO's LoRA cannot be merged into {name}, which is quantised: "
                "set merge_uno to false"
            )
        weight = layer.weight
        wide = [one.to(weight.device, torch.float32) for one in (weight, update.up, update.down)]
        weight.copy_(torch.addmm(*wide))


def keep(
    transformer: FluxTransformer2DModel, updates: Mapping[str, Update], dtype: torch.dtype
) -> None:
    """Add each update to its layer's output, in `dtype`, whatever the layer's weight is stored as.

    It sits below PEFT, which knows one switch for all of a model's adapters: UNO belongs to the
    frozen model, so the adapter that is trained is switched off, saved and exported without it.
    """

    def placed(half: Tensor) -> Tensor:
        return half.to(transformer.device, dtype, copy=True)  # out of the mapped file

    shared = {id(update.down): placed(update.down) for update in updates.values()}
    for name, update in updates.items():
        layer = transformer.get_submodule(name)  # its buffers go where it goes, and are not saved
        layer.register_buffer("uno_down", shared[id(update.down)], persistent=False)
        layer.register_buffer("uno_up", placed(update.up), persistent=False)
        layer.register_forward_hook(_add_update)


def _layers(transformer: FluxTransformer2DModel) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Published names of all layers, and the modules that each stands for."""
    for kind, folder in BLOCKS.items():
        for number in range(len(transformer.get_submodule(folder))):
            for layer, parts in LAYERS[kind].items():
                modules = tuple(f"{folder}.{number}.{part}" for part in parts)
                yield f"{kind}.{number}.processor.{layer}", modules


def _add_update(layer: Any, inputs: tuple[Tensor], output: Tensor) -> Tensor:
    return output + linear(linear(inputs[0], layer.uno_down), layer.uno_up)
