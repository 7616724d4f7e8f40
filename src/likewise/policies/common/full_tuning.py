"""Fine-tuning every weight of a denoiser: the alternative to a LoRA."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh

from likewise.pretrained.models import load_model
from likewise.sharding.shards import Shards, shard_module
from likewise.tensors import save_pretrained


class FullTuning:
    """Every parameter of `denoiser`, made float32.

    Args:
        name: Its part of the pipeline, and the sub-folder that it is written to.
        keep_reference: Keep a copy of the weights as they are now, for :meth:`disabled`. Costs
            their memory once more.
    """

    def __init__(
        self, denoiser: Any, name: str, keep_reference: bool = True, wait: bool = False
    ) -> None:
        """`wait`: Change nothing before :meth:`shard`, as no process could hold all of it."""
        self.denoiser, self.name = denoiser.requires_grad_(True), name
        self.kind = type(denoiser)
        self.shards: Shards | None = None
        self._keeps_reference = keep_reference
        self.parameters: list[nn.Parameter] = []
        self._reference: list[Tensor] | None = None
        if not wait:
            denoiser.float()
            self._take(list(denoiser.parameters()))

    def shard(self, mesh: DeviceMesh, dtype: torch.dtype, make: Callable[[], Shards]) -> None:
        """Spread the weights over processes; see `TrainablePolicy.shard`."""
        shard_module(self.denoiser, mesh, dtype, torch.float32)
        self.shards = make()
        self._take(self.shards.plain)
        self.parameters = self.shards.trained

    def save(self, folder: Path, pipeline_class: Any) -> None:
        """Write the denoiser as diffusers does (safetensors), into a sub-folder."""
        model = self.denoiser
        if self.shards is not None:
            whole = dict(self.shards.whole(self.shards.plain))
            if not self.shards.is_main:
                return
            with torch.device("meta"):
                model = self.kind.from_config(self.denoiser.config)
            model.load_state_dict(whole, assign=True)
        save_pretrained(model, folder / self.name)

    def load(self, folder: Path) -> None:
        """Fill the denoiser in place from `folder`.

        Raises:
            ValueError: the weights are missing, damaged, not finite, or of another shape.
        """
        if not (folder / self.name).is_dir():
            raise ValueError(f"{folder} has no sub-folder {self.name!r} with full weights")
        saved = load_model(self.kind, folder / self.name, dtype=torch.float32)
        try:
            if self.shards is None:
                self.denoiser.load_state_dict(saved.state_dict())
            else:
                self.shards.fill(saved.state_dict())
        except (RuntimeError, ValueError) as error:
            raise ValueError(f"{folder} holds a {self.name} of another shape: {error}") from error

    @contextmanager
    def disabled(self) -> Iterator[None]:
        """Swap the reference weights in. A backward pass has to wait until they are out again.

        Raises:
            RuntimeError: no reference was kept.
        """
        if self._reference is None:
            raise RuntimeError("full fine-tuning kept no reference: pass keep_reference=True")
        if self.shards is not None:
            with self.shards.holding("reference", self._reference):
                yield
            return
        self._swap(self._reference)
        try:
            yield
        finally:
            self._swap(self._reference)

    def _take(self, parameters: list[nn.Parameter]) -> None:
        self.parameters = parameters
        if self._keeps_reference:
            self._reference = [one.detach().clone() for one in parameters]

    def _swap(self, others: list[Tensor]) -> None:
        for number, parameter in enumerate(self.parameters):
            parameter.data, others[number] = others[number], parameter.data
