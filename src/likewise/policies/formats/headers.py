"""Headers of exported safetensors files, which say what they are; equal for equal adapters."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from likewise import __version__
from likewise import tensors as tensor_files
from likewise.policies.formats.layouts import Family

OWN_KEY = "likewise"  # in the header: a JSON object with what is known of the run


@dataclass(frozen=True)
class Facts:
    """What a file says of its run: nothing about prompts, images or the machine.

    Attributes:
        recipe: Its name.
        policy: Its kind.
        model: Name of the base model, without folders.
        checkpoint: Name of the checkpoint.
        height, width: Of the images that it was trained on, pixels.
    """

    recipe: str
    policy: str
    model: str
    checkpoint: str
    height: int
    width: int


def write(file: Path, tensors: Mapping[str, Tensor], header: Mapping[str, str]) -> None:
    """Write a safetensors file whose bytes follow from its content.

    safetensors writes the entries of the header's ``__metadata__`` in random order. Here they are
    sorted afterwards, in place: sorting changes no lengths, so no tensor moves.
    """
    tensor_files.save(tensors, file, {"format": "pt", **header})
    with file.open("r+b") as handle:
        (length,) = struct.unpack("<Q", handle.read(8))
        content = json.loads(handle.read(length))
        content["__metadata__"] = dict(sorted(content["__metadata__"].items()))
        text = json.dumps(content, separators=(",", ":"), ensure_ascii=False).encode()
        if len(text) > length:
            raise RuntimeError(f"{file}: safetensors has changed how it writes headers")
        handle.seek(8)
        handle.write(text.ljust(length))


def own_header(facts: Facts) -> dict[str, str]:
    about = {
        "version": __version__,
        "recipe": facts.recipe,
        "policy": facts.policy,
        "model": facts.model,
        "checkpoint": facts.checkpoint,
    }
    return {OWN_KEY: json.dumps(about, sort_keys=True)}


def kohya_header(facts: Facts, settings: Mapping[str, Any], family: Family) -> dict[str, str]:
    """What kohya's tools and model browsers look for: ``ss_…``, and ModelSpec 1.0.1 but its date
    and hash (equal adapters give equal files)."""
    header = {
        "ss_network_module": family.network_module,
        "ss_network_dim": str(settings["r"]),
        "ss_network_alpha": str(settings["lora_alpha"]),
        "ss_base_model_version": family.base_model,
        "modelspec.sai_model_spec": "1.0.1",
        "modelspec.architecture": family.architecture,
        "modelspec.implementation": "diffusers",
        "modelspec.title": facts.recipe,
        "modelspec.resolution": f"{facts.width}x{facts.height}",
    }
    return {key: value for key, value in header.items() if value is not None}
