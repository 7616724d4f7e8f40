"""A LoRA in a diffusers model, by PEFT, saved in diffusers' format.

Its parameters are float32 even on a bfloat16 base: at learning rates near 1e-5 most updates are
smaller than a bfloat16 rounding.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model_state_dict, set_peft_model_state_dict
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh

from likewise.policies.common.second_lora import SECOND, add_second
from likewise.policies.common.stored_lora import METADATA_KEY, read_lora
from likewise.sharding.shards import Shards, shard_module
from likewise.tensors import save, writing

NAME = "default"


@dataclass(frozen=True)
class Part:
    """A LoRA of one module: scale·up·down, with down [r, in, …] and up [out, r, …]."""

    down: Tensor
    up: Tensor
    scale: float


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
        self._reference: list[Tensor] | None = None
        self.shards: Shards | None = None

    def shard(self, mesh: DeviceMesh, dtype: torch.dtype, make: Callable[[], Shards]) -> None:
        """Spread base and LoRA over processes; see `TrainablePolicy.shard`."""
        shard_module(self.denoiser, mesh, dtype)
        self.shards = shards = make()
        self.parameters = shards.trained
        if self._reference is not None:
            parts = [shards.own(number, one).clone() for number, one in enumerate(self._reference)]
            self._reference = parts

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
        weights = self._weights()
        if self.shards is not None and not self.shards.is_main:
            return
        with writing(folder):
            pipeline_class.save_lora_weights(
                folder,
                **{f"{self.name}_lora_layers": weights},
                save_function=lambda weights, file: save(weights, Path(file), header),
            )

    def load(self, folder: Path) -> None:
        """Fill the adapter in place from `folder`, or from a file in its format.

        Raises:
            ValueError: as `read_lora`, or the adapter there has another shape or scale.
        """
        weights, metadata = read_lora(folder, self.name)
        own = self._weights(whole=False)
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
        if self.shards is None:
            set_peft_model_state_dict(self.denoiser, weights, adapter_name=NAME)
        else:
            self.shards.fill({name: weights[_key(name)] for name in self.shards.names})

    @property
    def modules(self) -> list[str]:
        """Dotted names of the modules that it adapts."""
        return sorted({key.rpartition(".lora_")[0] for key in self._weights()})

    def fill(self, parts: Mapping[str, Part], source: Path) -> None:
        """Begin with what `parts` adds to each module, exactly; other modules stay as they are.

        Where this LoRA has a larger rank, further rows of A keep their values, and their B is 0.

        Args:
            source: Where the parts are from, for messages.

        Raises:
            ValueError: a module is not adapted here, or its rank or shape does not fit.
        """
        own = self._weights()
        if odd := sorted(parts.keys() - set(self.modules)):
            raise ValueError(
                f"{source} has a LoRA of {odd[0]}, which adapter.targets does not name "
                f"({len(odd)} such modules)"
            )
        if not parts:
            raise ValueError(f"{source} holds no LoRA of a module that is trained here")
        scale = self._config.lora_alpha / self._config.r
        for module, part in parts.items():
            A, B = own[f"{module}.lora_A.weight"], own[f"{module}.lora_B.weight"]
            rank = len(part.down)
            if rank > len(A):
                raise ValueError(
                    f"{source} has rank {rank} in {module}: set adapter.rank to {rank} or more"
                )
            shapes = (A.shape[1:], B.shape[:1], B.shape[2:])
            if shapes != (part.down.shape[1:], part.up.shape[:1], part.up.shape[2:]):
                raise ValueError(
                    f"{source} is for another model: {module} has shapes {list(part.down.shape)} "
                    f"and {list(part.up.shape)} there, {list(A.shape)} and {list(B.shape)} here"
                )
            filled_A, filled_B = A.clone(), torch.zeros_like(B)
            filled_A[:rank] = part.down
            filled_B[:, :rank] = part.up.float() * (part.scale / scale)
            own |= {f"{module}.lora_A.weight": filled_A, f"{module}.lora_B.weight": filled_B}
        set_peft_model_state_dict(self.denoiser, own, adapter_name=NAME)

    def set_strength(self, factor: float, second: float = 0.0) -> None:
        """Make what it changes `factor` times as large, until the next call; 1 is as trained.

        Meant for drawing: what is saved does not have it.

        Args:
            second: The same for the LoRA of `add_second`.
        """
        for module in self.denoiser.modules():
            if isinstance(module, LoraLayer):  # which need not have both
                module.set_scale(NAME, factor)
                module.set_scale(SECOND, second)

    def add_second(self, folder: Path) -> None:
        """Put another LoRA beside it for drawing; see `second_lora.add_second`."""
        add_second(self.denoiser, self.name, folder)

    def keep_reference(self) -> None:
        """Make the weights as they are now what :meth:`disabled` shows, instead of no adapter."""
        self._reference = [parameter.detach().clone() for parameter in self.parameters]

    @contextmanager
    def disabled(self) -> Iterator[None]:
        """Without the adapter, or with it as it was when :meth:`keep_reference` was called.

        A backward pass has to wait until the context is left.
        """
        if self._reference is not None:
            if self.shards is not None:
                others = self.shards.holding("reference", self._reference)
            else:
                others = swapped(self.parameters, self._reference)
            with others:
                yield
            return
        self.denoiser.disable_adapters()
        try:
            yield
        finally:
            self.denoiser.enable_adapters()

    @property
    def _config(self) -> LoraConfig:
        return self.denoiser.peft_config[NAME]

    def _weights(self, whole: bool = True) -> dict[str, Tensor]:
        """By PEFT's keys. `whole`: put together from shards, if they are in any; see `Shards`."""
        state = None
        if whole and self.shards is not None:
            state = dict(self.shards.whole(self.shards.plain))
        return get_peft_model_state_dict(self.denoiser, state, adapter_name=NAME)


def _key(name: str) -> str:
    """PEFT's key of a parameter."""
    return name.replace(f".{NAME}.", ".")


@contextmanager
def swapped(parameters: Sequence[nn.Parameter], others: Sequence[Tensor]) -> Iterator[None]:
    """Within this context the parameters have other values."""
    own = [parameter.data for parameter in parameters]
    for parameter, other in zip(parameters, others, strict=True):
        parameter.data = other.to(parameter.device)
    try:
        yield
    finally:
        for parameter, value in zip(parameters, own, strict=True):
            parameter.data = value


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
