"""A LoRA as one file in diffusers', ComfyUI's or kohya's format."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from peft.tuners.lora import LoraLayer
from safetensors.torch import load_file
from torch import Tensor

from likewise.policies.common.lora import NAME
from likewise.policies.common.pipeline_policy import PipelinePolicy
from likewise.policies.common.stored_lora import METADATA_KEY, read_lora
from likewise.policies.formats import flux, qwen, unet
from likewise.policies.formats.headers import Facts, kohya_header, own_header, write
from likewise.policies.formats.layouts import Config, Family, Layout, by_module, convert, restore

FAMILIES: dict[str, Callable[[Config], Family]] = {
    "flux": flux.family,
    "flux2": flux.family2,
    "qwen": qwen.family,
    "unet": unet.family,
}
DIFFUSERS, COMFYUI, KOHYA = "diffusers", "comfyui", "kohya"
FORMATS = (DIFFUSERS, COMFYUI, KOHYA)
STOCK, OWN = "diffusers", "likewise's own inverse"
_READ_BACK = "read-back"  # PEFT's name of the adapter beside the run's


class LoraExport:
    """The LoRA in `folder`, which is also in the policy's denoiser."""

    def __init__(
        self, policy: PipelinePolicy, folder: Path, file_format: str, facts: Facts
    ) -> None:
        """Read the LoRA; raises ValueError where the format cannot hold it."""
        self.policy, self.name = policy, policy.denoiser_name
        self.weights, self.settings = read_lora(folder, self.name)
        self.modules = list(by_module(self.weights))
        self.layout: Layout | None = None
        self.header = own_header(facts)
        if file_format == DIFFUSERS:
            settings = {f"{self.name}.{key}": value for key, value in self.settings.items()}
            self.header[METADATA_KEY] = json.dumps(settings, indent=2, sort_keys=True)
        else:
            family = family_of(policy)
            self.layout = family.kohya if file_format == KOHYA else family.comfyui
            self.header |= kohya_header(facts, self.settings, family)
        self.reader = STOCK if self.layout is None or self.layout.stock else OWN

    def write(self, out: Path) -> None:
        if self.layout is None:
            tensors = self._named(self.weights)
        else:
            tensors = convert(self.weights, self.settings["lora_alpha"], self.layout)
        write(out, tensors, self.header)

    def read(self, out: Path) -> float:
        """Load the file beside the run's LoRA, and switch over to it."""
        denoiser = self.policy.denoiser
        source: Path | dict[str, Tensor] = out
        if self.layout is not None and not self.layout.stock:
            source = self._named(restore(load_file(out), self.modules, self.layout))
        with warnings.catch_warnings():  # PEFT warns of a second adapter: that is meant
            warnings.filterwarnings("ignore", message="Already found a `peft_config`")
            self.policy.pipeline.load_lora_weights(source, adapter_name=_READ_BACK)
        others = [name for name in denoiser.active_adapters() if name not in (NAME, _READ_BACK)]
        denoiser.set_adapter([*others, _READ_BACK])
        layers = [module for module in denoiser.modules() if isinstance(module, LoraLayer)]
        return float(torch.stack([_error(layer).cpu() for layer in layers]).max())

    def _named(self, weights: dict[str, Tensor]) -> dict[str, Tensor]:
        return {f"{self.name}.{key}": tensor.contiguous() for key, tensor in weights.items()}


def family_of(policy: PipelinePolicy) -> Family:
    """What other programs call a policy's modules.

    Raises:
        ValueError: the policy does not say which family it is of.
    """
    if policy.lora_layout not in FAMILIES:
        raise ValueError(
            f"{type(policy).__name__} has the lora_layout {policy.lora_layout!r}, and names for "
            f"other programs are known of {', '.join(FAMILIES)}: use --format {DIFFUSERS}"
        )
    return FAMILIES[policy.lora_layout](policy.denoiser.config)


def _error(module: Any) -> Tensor:
    """‖ΔW' − ΔW‖ / ‖ΔW‖ of one module; a side without a LoRA there has ΔW = 0."""
    wanted, found = (
        module.get_delta_weight(name).float() if name in module.scaling else torch.zeros(())
        for name in (NAME, _READ_BACK)
    )
    away = (found.to(wanted.device) - wanted).norm()
    return away / wanted.norm() if away != 0 else away  # and not 0 / 0 of a fresh LoRA
