"""A second LoRA beside a policy's own, to draw with anything between the two."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import torch
from peft import set_peft_model_state_dict
from peft.tuners.lora import LoraLayer

from likewise.policies.common.stored_lora import read_lora, stored_config

SECOND = "second"


def add_second(denoiser: Any, name: str, folder: Path) -> None:
    """Inject the LoRA in `folder` beside the one that is there; it changes nothing yet.

    Rank, scale and modules may differ from the first one's.

    Args:
        name: The denoiser's part of the pipeline.

    Raises:
        ValueError: the folder holds no LoRA, does not say its alpha, or has a DoRA, whose change is
            not a sum; or there is a second one already.
    """
    weights, settings = read_lora(folder, name)
    if "lora_alpha" not in settings:
        raise ValueError(f"{folder} does not say its alpha")
    if settings.get("use_dora"):
        raise ValueError(f"{folder} holds a DoRA: only plain LoRAs can be interpolated")
    active = list(denoiser.active_adapters())
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Already found a `peft_config`")
        denoiser.add_adapter(stored_config(settings, weights, folder), adapter_name=SECOND)
    set_peft_model_state_dict(denoiser, weights, adapter_name=SECOND)
    denoiser.set_adapter([*active, SECOND])
    for module in denoiser.modules():
        if isinstance(module, LoraLayer) and SECOND in module.scaling:
            for half in (module.lora_A[SECOND], module.lora_B[SECOND]):
                half.requires_grad_(False).float()
            module.set_scale(SECOND, 0)
