"""The Python API, one file per verb: `train`, `resume` and `extend`, `generate`,
`evaluate`, `attribute`, `advise`, `export`.

``from likewise import load_recipe, train`` is the short way in. Names load when first used:
checking data (`likewise.api.data_checks`) needs no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from likewise.quiet import hush_imports

if TYPE_CHECKING:
    from likewise.api.adapter_export import Exported, export
    from likewise.api.advising import advise
    from likewise.api.attributing import attribute
    from likewise.api.evaluation import Evaluation, evaluate
    from likewise.api.extending import extend
    from likewise.api.generation import generate
    from likewise.api.training import Outcome, resume, train

_MODULES = {
    "Evaluation": "evaluation",
    "Exported": "adapter_export",
    "Outcome": "training",
    "advise": "advising",
    "attribute": "attributing",
    "evaluate": "evaluation",
    "export": "adapter_export",
    "extend": "extending",
    "generate": "generation",
    "resume": "training",
    "train": "training",
}
__all__ = [
    "Evaluation",
    "Exported",
    "Outcome",
    "advise",
    "attribute",
    "evaluate",
    "export",
    "extend",
    "generate",
    "resume",
    "train",
]

hush_imports()  # here too, for Python users and for processes of a run: neither imports the command


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
