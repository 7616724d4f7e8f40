"""Reinforcement learning for subject-driven image generators whose rewards conflict.

From Python: ``from likewise import load_recipe, train, resume, generate, evaluate, attribute,
export``.
Names load when first used, so that importing the package does not import torch.
"""

from __future__ import annotations

import importlib

TYPE_CHECKING = False  # `typing` would load before Ctrl-C is quiet; see `__main__`
if TYPE_CHECKING:
    from typing import Any

__version__ = "0.1.0"

_MODULES = {
    "EvaluationSettings": "likewise.config.evaluation_settings",
    "load_recipe": "likewise.config.loading",
    "train": "likewise.api",
    "resume": "likewise.api",
    "generate": "likewise.api",
    "evaluate": "likewise.api",
    "attribute": "likewise.api",
    "export": "likewise.api",
    "Task": "likewise.types",
}
__all__ = [
    "EvaluationSettings",
    "Task",
    "__version__",
    "attribute",
    "evaluate",
    "export",
    "generate",
    "load_recipe",
    "resume",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'likewise' has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULES[name]), name)
