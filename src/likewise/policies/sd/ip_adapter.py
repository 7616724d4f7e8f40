"""An IP-Adapter (Ye et al., 2308.06721) in a UNet: read, checked, and loaded by diffusers.

A CLIP image encoder embeds the reference; a projection makes a few tokens of that; every
cross-attention attends to them beside the text, with keys and values of their own.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers.models.embeddings import ImageProjection, MultiIPAdapterImageProjection
from huggingface_hub import hf_hub_download
from torch import Tensor
from transformers import CLIPImageProcessorPil, CLIPVisionModelWithProjection

from likewise.policies.common.pipeline_loading import align
from likewise.pretrained.models import load_model
from likewise.tensors import load

Weights = dict[str, dict[str, Tensor]]  # diffusers' form: "image_proj" and "ip_adapter"

# Each kind of projection: its first layer, its last, how many tokens the last one makes at once,
# and which of the encoder's sizes it takes.
PROJECTIONS = {
    "plain": ("proj.weight", "proj.weight", 4, "projection_dim"),
    "full face": ("proj.0.weight", "proj.3.weight", 1, "hidden_size"),
    "plus": ("proj_in.weight", "proj_out.weight", 1, "hidden_size"),
}


def load_ip_adapter(pipeline: Any, source: str | Path, weights: str, image_encoder: str) -> None:
    """Load an IP-Adapter and its image encoder into a pipeline.

    Args:
        source: Folder, or name on the Hub.
        weights: Its file of weights, as a path in `source`; safetensors only.
        image_encoder: Folder of the CLIP image encoder, as a path in `source`.

    Raises:
        ValueError: something is missing, or made for another UNet or another image encoder.
    """
    if not weights.endswith(".safetensors"):
        raise ValueError(
            f"ip_adapter_weights {weights!r} is not a safetensors file: others may run code when "
            "they are read"
        )
    stored = read_weights(_local(source, weights))
    try:
        encoder = load_model(
            CLIPVisionModelWithProjection, source, image_encoder, dtype=pipeline.unet.dtype
        )
    except OSError as error:
        raise ValueError(f"no image encoder at {image_encoder!r} in {source}: {error}") from error
    # Where the other encoders are: on the CPU where they wait there.
    pipeline.register_modules(image_encoder=encoder.to(pipeline.vae.device).eval())
    if pipeline.feature_extractor is None:  # diffusers would take torchvision's where there is one
        side = encoder.config.image_size
        pipeline.register_modules(
            feature_extractor=CLIPImageProcessorPil(size=side, crop_size=side)
        )
    install(pipeline, stored, f"{source}/{weights}")
    align(pipeline)


def read_weights(file: Path) -> Weights:
    """The file in the published layout: keys ``image_proj.…`` and ``ip_adapter.…``.

    Raises:
        ValueError: the file is damaged, or not an IP-Adapter.
    """
    found: Weights = {"image_proj": {}, "ip_adapter": {}}
    for key, tensor in load(file).items():
        part, _, name = key.partition(".")
        if part not in found:
            raise ValueError(f"{file} is not an IP-Adapter: it has a key {key!r}")
        found[part][name] = tensor
    return found


def install(pipeline: Any, weights: Weights, name: str) -> None:
    """Give the UNet of a pipeline that has its image encoder an IP-Adapter.

    Raises:
        ValueError: `weights` are for another UNet or encoder, or the UNet is quantised.
    """
    if getattr(pipeline.unet, "hf_quantizer", None) is not None:
        raise ValueError("diffusers cannot load an IP-Adapter into a quantised UNet")
    _check_attention(weights["ip_adapter"], pipeline.unet, name)
    _check_projection(weights["image_proj"], pipeline, name)
    try:
        pipeline.load_ip_adapter(
            weights,
            subfolder=None,
            weight_name=None,
            image_encoder_folder=None,
            low_cpu_mem_usage=False,  # which would leave missing weights unset, without a word
        )
    except RuntimeError as error:
        raise ValueError(f"{name} is incomplete: {error}") from error


def projection_of(pipeline: Any) -> torch.nn.Module:
    """The layer that makes tokens of an embedded reference.

    Raises:
        ValueError: the UNet has no IP-Adapter or several, or the pipeline has no image encoder.
    """
    several = pipeline.unet.encoder_hid_proj
    if not isinstance(several, MultiIPAdapterImageProjection):
        raise ValueError("the UNet has no IP-Adapter: name one as ip_adapter")
    if several.num_ip_adapters != 1:
        raise ValueError(f"the UNet has {several.num_ip_adapters} IP-Adapters; wanted one")
    if pipeline.image_encoder is None:
        raise ValueError("the pipeline has no image_encoder for its IP-Adapter")
    return several.image_projection_layers[0]


def takes_hidden_states(pipeline: Any) -> bool:
    """Whether it takes the encoder's states [S, D], as all but the plain kind, or one vector."""
    return not isinstance(projection_of(pipeline), ImageProjection)


def _local(source: str | Path, file: str) -> Path:
    """Where the file is on this machine, downloaded if need be."""
    if Path(source).is_dir():
        path = Path(source) / file
        if not path.is_file():
            raise ValueError(f"there is no IP-Adapter file {path}")
        return path
    try:
        return Path(hf_hub_download(str(source), file))
    except (OSError, ValueError) as error:
        raise ValueError(
            f"there is no folder {source}, and no {file} under that name on the Hub: {error}"
        ) from error


def _check_attention(weights: Mapping[str, Tensor], unet: Any, name: str) -> None:
    """Keys and values of each cross-attention, in the order and shapes of this UNet."""
    layers = [one for one in unet.attn_processors if one.endswith("attn2.processor")]
    wanted = {
        f"{2 * number + 1}.{part}_ip.weight": list(
            unet.get_submodule(f"{layer.removesuffix('.processor')}.{part}").weight.shape
        )
        for number, layer in enumerate(layers)
        for part in ("to_k", "to_v")
    }
    found = {key: list(value.shape) for key, value in weights.items()}
    for key in sorted(wanted.keys() | found.keys()):
        if wanted.get(key) != found.get(key):
            raise ValueError(
                f"{name} is an IP-Adapter for another UNet: its {key} is "
                f"{found.get(key, 'missing')}, this UNet has {wanted.get(key, 'none')}"
            )


def _check_projection(weights: Mapping[str, Tensor], pipeline: Any, name: str) -> None:
    """It has to fit the image encoder at one end and the UNet at the other."""
    kinds = (kind for kind in PROJECTIONS.values() if {kind[0], kind[1]} <= weights.keys())
    first, last, tokens, size = next(kinds, ("", "", 0, ""))
    if not first:
        raise ValueError(
            f"{name} is of another kind than {', '.join(PROJECTIONS)}: FaceID and others need "
            "embeddings that CLIP does not make"
        )
    takes, gives = weights[first].shape[1], weights[last].shape[0] / tokens
    given = getattr(pipeline.image_encoder.config, size)
    if takes != given:
        raise ValueError(
            f"{name} needs an image encoder with {size} {takes}, not {given}: name another as "
            "image_encoder"
        )
    if gives != pipeline.unet.config.cross_attention_dim:
        raise ValueError(
            f"{name} is an IP-Adapter for another UNet: its tokens have {gives:g} channels, "
            f"this UNet takes {pipeline.unet.config.cross_attention_dim}"
        )
