"""What an export knows of a family of models: two layouts, and what kohya's tools call it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from likewise.policies.formats.layouts import Layout

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
