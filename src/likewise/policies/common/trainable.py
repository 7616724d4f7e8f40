"""The trainable weights of a policy: a LoRA in a frozen denoiser, or all of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh

from likewise.policies.common.full_tuning import FullTuning
from likewise.policies.common.lora import Lora, lora_config
from likewise.policies.common.stored_lora import read_lora, stored_config
from likewise.sharding.shards import Shards


class TrainablePolicy:
    """Base class that keeps a frozen pipeline's denoiser and what is trained of it.

    Args:
        pipeline: A diffusers pipeline. All of it is frozen.
        dtype: What the forward computes in; default: the denoiser's dtype before anything is added.

    Attributes:
        denoiser_name: Which part of the pipeline that is: ``transformer`` or ``unet``.
        lora_presets: Name → regular expression of whole names of the modules that such a LoRA
            adapts.
        adapter: None until :meth:`add_lora`, :meth:`train_all` or :meth:`load_adapter`.
    """

    denoiser_name: ClassVar[str] = "transformer"
    lora_presets: ClassVar[Mapping[str, str]] = {}

    def __init__(self, pipeline: Any, dtype: torch.dtype | None = None) -> None:
        for part in pipeline.components.values():
            if isinstance(part, nn.Module):
                part.requires_grad_(False).eval()
        self.pipeline = pipeline
        self.denoiser = getattr(pipeline, self.denoiser_name)
        self.dtype: torch.dtype = dtype or self.denoiser.dtype
        self.adapter: Lora | FullTuning | None = None
        self._disabled = False

    @property
    def device(self) -> torch.device:
        return self.denoiser.device

    def autocast(self) -> torch.autocast:
        """The context of a forward: autocast to a 16-bit dtype.

        PEFT would otherwise multiply by the float32 adapter in float32, which costs more than the
        base. It depends neither on there being an adapter nor on its being enabled: the untrained
        model, the frozen reference and a fresh adapter agree in every bit. (On a GPU, where
        autocast computes norms in float32, none of them equals a stock 16-bit pipeline exactly.)
        """
        mixed = self.dtype != torch.float32
        return torch.autocast(self.device.type, self.dtype, enabled=mixed)

    def add_lora(
        self,
        rank: int,
        alpha: float,
        target_modules: str | Sequence[str] = "attention",
        seed: int = 0,
    ) -> None:
        """Make a LoRA the trainable part.

        Args:
            target_modules: A preset's name, or endings of module names.
            seed: Of the half that does not start at zero.

        Raises:
            ValueError: something is trainable already, no module matches, or a bad number.
        """
        self._require_untouched()
        config = lora_config(rank, alpha, target_modules, self.lora_presets)
        self.adapter = Lora(self.denoiser, self.denoiser_name, config, seed)

    def train_all(self, keep_reference: bool = True, wait: bool = False) -> None:
        """Make the whole denoiser trainable, in float32 (autocast to the policy's dtype).

        Args:
            keep_reference: Keep a copy of the weights for :meth:`adapter_disabled`.
            wait: Until :meth:`shard`, which has to be next.

        Raises:
            ValueError: something is trainable already.
        """
        self._require_untouched()
        self.adapter = FullTuning(self.denoiser, self.denoiser_name, keep_reference, wait)

    def shard(self, mesh: DeviceMesh, timeout: timedelta) -> None:
        """Spread the denoiser and what is trained of it over processes; a collective call.

        From here on all processes have to make the same forwards and backward passes, which
        :attr:`shards` sees to; :meth:`save_adapter` is a collective call too.

        Args:
            mesh: Of `sharding.mesh.make_mesh`.
            timeout: How long one process may wait for another.

        Raises:
            ValueError: nothing is trainable.
        """
        if self.adapter is None:
            raise ValueError("nothing to train in shards: call add_lora or train_all first")
        make = partial(Shards, self.denoiser, mesh, self.take_part, timeout)
        self.adapter.shard(mesh, self.dtype, make)
        assert self.shards is not None
        self.shards.lockstep.contexts["reference"] = self.adapter.disabled

    @property
    def shards(self) -> Shards | None:
        """What is trained, if it is in shards."""
        return None if self.adapter is None else self.adapter.shards

    def take_part(self) -> Tensor:
        """One forward of the denoiser on an input of zeros; its output."""
        raise NotImplementedError

    def trainable_parameters(self) -> list[nn.Parameter]:
        return [] if self.adapter is None else list(self.adapter.parameters)

    def save_adapter(self, folder: str | Path) -> None:
        """Write what is trained into `folder`.

        Raises:
            ValueError: nothing is trainable.
        """
        if self.adapter is None:
            raise ValueError("nothing to save: call add_lora or train_all first")
        self.adapter.save(Path(folder), type(self.pipeline))

    def load_adapter(self, folder: str | Path) -> None:
        """A policy without an adapter gets one like the stored one first."""
        if self.adapter is None:
            self.adapter = stored_adapter(self.denoiser, self.denoiser_name, Path(folder))
        self.adapter.load(Path(folder))

    def add_second(self, folder: str | Path) -> None:
        """Put the LoRA in `folder` beside the policy's own, for drawing; see :meth:`set_strength`.

        Raises:
            ValueError: all weights were trained, here or there, or as `second_lora.add_second`.
        """
        if not isinstance(self.adapter, Lora) or (Path(folder) / self.denoiser_name).is_dir():
            raise ValueError("only LoRAs can be interpolated, and one trained all weights")
        self.adapter.add_second(Path(folder))

    def set_strength(self, factor: float, second: float = 0.0) -> None:
        """Draw with the adapter's change `factor` times as large; 1 is as trained.

        The denoiser's weights become W + factor·ΔW₁ + second·ΔW₂: with ``1 − s`` and ``s`` they are
        interpolated between two adapters.

        Args:
            second: The same for the adapter of :meth:`add_second`.

        Raises:
            ValueError: all weights were trained, so that there is no adapter to be scaled.
        """
        if isinstance(self.adapter, Lora):
            self.adapter.set_strength(factor, second)
        elif self.adapter is not None and factor != 1:
            raise ValueError("only a LoRA has a strength, and this run trained all weights")

    @contextmanager
    def adapter_disabled(self) -> Iterator[None]:
        """Without an adapter the policy is its own reference. Contexts may be nested."""
        if self.adapter is None or self._disabled:
            yield
            return
        self._disabled = True
        try:
            with self.adapter.disabled():
                yield
        finally:
            self._disabled = False

    def _require_untouched(self) -> None:
        if self.adapter is not None:
            raise ValueError(f"the policy already trains its {type(self.adapter).__name__}")


def stored_adapter(denoiser: Any, name: str, folder: Path) -> Lora | FullTuning:
    """A new adapter of the kind and shape that `folder` holds; its values are not loaded yet.

    Raises:
        ValueError: the folder holds none, or does not say its alpha. (diffusers would take the
            rank for it, which is silently wrong wherever the two differ.)
    """
    if (folder / name).is_dir():
        return FullTuning(denoiser, name)
    weights, settings = read_lora(folder, name)
    if "lora_alpha" not in settings:
        raise ValueError(f"{folder} does not say its alpha: add the adapter first")
    return Lora(denoiser, name, stored_config(settings, weights, folder))
