"""A LoRA in a diffusers model, by PEFT, saved in diffusers' format.

Its parameters are float32 even on a bfloat16 base: at learning rates near 1e-5 most updates are
smaller than a bfloat16 rounding.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model_state_dict, set_peft_model_state_dict
from torch import Tensor

from likewise.policies.common.stored_lora import METADATA_KEY, read_lora
from likewise.tensors import save, writing

NAME = "default"


class Lora:
    """A LoRA injected into `denoiser` (Hu et al., 2106.09685), which is frozen otherwise.

    W x becomes W x + (alpha / rank)·B A x; B starts at 0, so a fresh adapter changes nothing.
    """

    def __init__(self, denoiser: Any, name: str, config: LoraConfig, seed: int = 0) -> None:
        """Inject, with A drawn from `seed` on the CPU.

        Args:
            name: The denoiser's part of the pipeline, which diffusers puts before its keys.

        Raises:
            ValueError: no module matches the config's targets (from PEFT).
        """
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            denoiser.add_adapter(config, adapter_name=NAME)
        self.denoiser, self.name = denoiser, name
        self.parameters = [p for p in denoiser.parameters() if p.requires_grad]
        for parameter in self.parameters:
            parameter.data = parameter.data.float()

    def save(self, folder: Path, pipeline_class: Any) -> None:
        """Write diffusers' LoRA format, alpha included, for stock ``load_lora_weights``.

        Equal adapters give equal files, so that checksums can compare runs: sets are sorted, and
        the header has one entry, because safetensors writes several in random order.
        """
        settings = {
            f"{self.name}.{key}": sorted(value) if isinstance(value, set) else value
            for key, value in self._config.to_dict().items()
        }
        header = {METADATA_KEY: json.dumps(settings, indent=2, sort_keys=True)}
        with writing(folder):
            pipeline_class.save_lora_weights(
                folder,
                **{f"{self.name}_lora_layers": self._weights()},
                save_function=lambda weights, file: save(weights, Path(file), header),
            )

    def load(self, folder: Path) -> None:
        """Fill the adapter in place from `folder`, or from a file in its format.

        Raises:
            ValueError: as `read_lora`, or the adapter there has another shape or scale.
        """
        weights, metadata = read_lora(folder, self.name)
        own = self._weights()
        if {key: own[key].shape for key in own} != {key: weights[key].shape for key in weights}:
            odd = sorted(own.keys() ^ weights.keys()) or [
                key for key in own if own[key].shape != weights[key].shape
            ]
            raise ValueError(
                f"{folder} holds another adapter than this one; {len(odd)} entries differ, "
                f"the first is {odd[0]}"
            )
        if metadata.get("lora_alpha", self._config.lora_alpha) != self._config.lora_alpha:
            raise ValueError(
                f"{folder} has alpha {metadata['lora_alpha']}, not {self._config.lora_alpha}"
            )
        set_peft_model_state_dict(self.denoiser, weights, adapter_name=NAME)

    @contextmanager
    def disabled(self) -> Iterator[None]:
        self.denoiser.disable_adapters()
        try:
            yield
        finally:
            self.denoiser.enable_adapters()

    @property
    def _config(self) -> LoraConfig:
        return self.denoiser.peft_config[NAME]

    def _weights(self) -> dict[str, Tensor]:
        return get_peft_model_state_dict(self.denoiser, adapter_name=NAME)


def lora_config(
    rank: int, alpha: float, targets: str | Sequence[str], presets: Mapping[str, str]
) -> LoraConfig:
    """A LoRA on the modules of a preset, or on those whose dotted names end as listed.

    Args:
        presets: Name → regular expression for whole module names.

    Raises:
        ValueError: rank or alpha is not positive, or there is no such preset.
    """
    if rank < 1 or not alpha > 0:
        raise ValueError(f"rank and alpha must be positive, not {rank} and {alpha}")
    if isinstance(targets, str) and targets not in presets:
        raise ValueError(f"no LoRA preset {targets!r}: one of {', '.join(presets)}, or a list")
    chosen = presets[targets] if isinstance(targets, str) else list(targets)
    return LoraConfig(r=rank, lora_alpha=alpha, target_modules=chosen)  # type: ignore[arg-type]
