"""Each policy as the suite sees it: a tiny pipeline of the real classes, and how stock draws."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from diffusers import DiffusionPipeline
from torch import Tensor

from likewise.policies.common.pipeline_policy import PipelinePolicy
from likewise.types import Task


@dataclass(frozen=True)
class Family:
    """One policy.

    Attributes:
        name: Row of the table in docs/models.md.
        kind: Of the recipe's policy.
        recipe: Shipped recipe that uses it.
        pipeline: Tiny, float32; equal weights in every call.
        policy: ``policy(dtype=torch.float32, **options)`` on a fresh pipeline.
        stock: (policy, task, steps, seed) → latents [1, *latent] that the stock pipeline's
            ``__call__`` draws with ``torch.Generator().manual_seed(seed)``.
        save: Writes what the recipe names below a folder; returns overrides that point the recipe
            at it.
        stock_tolerance: Largest difference from stock in float32; 0 but for a stated reason.
        smallest_reference: Pixels of a reference's shorter side that the model takes.
        max_references: That the model takes; 2 is enough to say "several".
    """

    name: str
    kind: str
    recipe: str
    pipeline: Callable[[], DiffusionPipeline]
    policy: Callable[..., PipelinePolicy]
    stock: Callable[[PipelinePolicy, Task, int, int], Tensor]
    save: Callable[[Path], list[str]]
    stock_tolerance: float = 0.0
    smallest_reference: int = 16
    max_references: int = 1


def families() -> list[Family]:
    """All of them: each module of this folder has ``FAMILIES`` or one ``FAMILY``."""
    found: list[Family] = []
    for module in pkgutil.iter_modules(__path__, f"{__name__}."):
        names = vars(importlib.import_module(module.name))
        found += names.get("FAMILIES") or [names["FAMILY"]]
    return found
