"""Writing an adapter in another format, and reading it back before it is handed out."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from likewise.policies.common.full_tuning import FullTuning
from likewise.policies.common.pipeline_policy import PipelinePolicy
from likewise.policies.formats.headers import Facts
from likewise.policies.formats.lora_files import DIFFUSERS, LoraExport
from likewise.pretrained.models import load_model
from likewise.records.atomic import TEMPORARY, remove
from likewise.tensors import save_pretrained

TOLERANCE = 1e-5  # relative, in float32: the order of a product's factors changes the last bits
TOLERANCE_16_BIT = 2e-2  # diffusers rounds what it loads to the base's 8 (bfloat16) or 11 bits


@dataclass(frozen=True)
class Difference:
    """How far what was read back is from the adapter in the run.

    Attributes:
        weights: Largest ‖ΔW' − ΔW‖ / ‖ΔW‖ of a module, ΔW being what the adapter adds to its
            weights (of full weights: W instead of ΔW). It shows a wrong scale of an adapter that
            hardly changes velocities yet.
        velocity: max |v' − v| / max |v|, at fixed noise on one task.
        tolerance: Of both.
        reader: What read the file.
    """

    weights: float
    velocity: float
    tolerance: float
    reader: str

    @property
    def is_small(self) -> bool:
        return self.weights <= self.tolerance and self.velocity <= self.tolerance

    def __str__(self) -> str:
        return f"weights differ by {self.weights:.1e}, the velocity by {self.velocity:.1e}"


class _Export(Protocol):
    """One adapter in one format.

    Attributes:
        reader: What `read` reads with.
    """

    reader: str

    def write(self, out: Path) -> None: ...

    def read(self, out: Path) -> float:
        """Make the policy draw with what `out` holds; the weights' difference to what it had."""
        ...


def export_adapter(
    policy: Any,
    folder: Path,
    file_format: str,
    out: Path,
    facts: Facts,
    velocity: Callable[[], Tensor],
) -> Difference:
    """Write the adapter in `folder`, which `policy` has loaded, to `out`, and read it back.

    Args:
        policy: Is left with what was read back.
        file_format: One of `FORMATS`.
        out: A file, replaced if it is there; of full weights an empty or new folder.
        velocity: Of `policy` as it is, always at the same noise.

    Raises:
        ValueError: the format cannot hold the adapter, or what was read back differs; then `out` is
            as it was before.
    """
    if not isinstance(policy, PipelinePolicy):
        raise ValueError(f"only a PipelinePolicy can be exported, not {type(policy).__name__}")
    export: _Export
    if not isinstance(policy.adapter, FullTuning):
        export = LoraExport(policy, folder, file_format, facts)
    elif file_format == DIFFUSERS:
        export = FullWeightsExport(policy)
    else:
        raise ValueError(
            f"{folder} holds full weights, and {file_format} files hold LoRAs: "
            f"use --format {DIFFUSERS}"
        )
    temporary = out.with_name(f"{TEMPORARY}{out.name}")
    _clear(temporary)
    try:
        export.write(temporary)
        difference = _read_back(policy, export, temporary, velocity)
        if not difference.is_small:
            raise ValueError(
                f"{out} was not written: read back by {difference.reader}, {difference} "
                f"(at most {difference.tolerance:g} is allowed)"
            )
        os.replace(temporary, out)
    finally:
        _clear(temporary)
    return difference


@torch.no_grad()
def _read_back(
    policy: PipelinePolicy, export: _Export, out: Path, velocity: Callable[[], Tensor]
) -> Difference:
    wanted = velocity()
    weights = export.read(out)
    away = float((velocity() - wanted).abs().max() / wanted.abs().max())
    tolerance = TOLERANCE if policy.dtype == torch.float32 else TOLERANCE_16_BIT
    return Difference(weights, away, tolerance, export.reader)


def _clear(path: Path) -> None:
    if path.exists():
        remove(path)


class FullWeightsExport:
    """The denoiser of a policy that trained all of it, float32: a folder that diffusers loads."""

    reader = "diffusers' from_pretrained"

    def __init__(self, policy: PipelinePolicy) -> None:
        self.denoiser = policy.denoiser

    def write(self, out: Path) -> None:
        save_pretrained(self.denoiser, out)

    def read(self, out: Path) -> float:
        saved = load_model(type(self.denoiser), out, dtype=torch.float32).state_dict()
        errors = [
            float((saved[name].to(mine.device) - mine).norm() / mine.norm().clamp_min(1e-30))
            for name, mine in self.denoiser.state_dict().items()
        ]
        self.denoiser.load_state_dict(saved)
        return max(errors)
