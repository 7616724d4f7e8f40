"""Fine-tuning every weight of a denoiser: the alternative to a LoRA."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from likewise.pretrained.models import load_model
from likewise.tensors import save_pretrained


class FullTuning:
    """Every parameter of `denoiser`, made float32.

    Args:
        name: Its part of the pipeline, and the sub-folder that it is written to.
        keep_reference: Keep a copy of the weights as they are now, for :meth:`disabled`. Costs
            their memory once more.
    """

    def __init__(self, denoiser: Any, name: str, keep_reference: bool = True) -> None:
        self.denoiser, self.name = denoiser.float().requires_grad_(True), name
        self.parameters: list[nn.Parameter] = list(denoiser.parameters())
        self._reference = [p.detach().clone() for p in self.parameters] if keep_reference else None

    def save(self, folder: Path, pipeline_class: Any) -> None:
        """Write the denoiser as diffusers does (safetensors), into a sub-folder."""
        save_pretrained(self.denoiser, folder / self.name)

    def load(self, folder: Path) -> None:
        """Fill the denoiser in place from `folder`.

        Raises:
            ValueError: the weights are missing, damaged, not finite, or of another shape.
        """
        if not (folder / self.name).is_dir():
            raise ValueError(f"{folder} has no sub-folder {self.name!r} with full weights")
        saved = load_model(type(self.denoiser), folder / self.name, dtype=torch.float32)
        try:
            self.denoiser.load_state_dict(saved.state_dict())
        except RuntimeError as error:
            raise ValueError(f"{folder} holds a {self.name} of another shape: {error}") from error

    @contextmanager
    def disabled(self) -> Iterator[None]:
        """Swap the reference weights in. A backward pass has to wait until they are out again.

        Raises:
            RuntimeError: no reference was kept.
        """
        if self._reference is None:
            raise RuntimeError("full fine-tuning kept no reference: pass keep_reference=True")
        self._swap(self._reference)
        try:
            yield
        finally:
            self._swap(self._reference)

    def _swap(self, others: list[Tensor]) -> None:
        for number, parameter in enumerate(self.parameters):
            parameter.data, others[number] = others[number], parameter.data
