"""The door from Python, one file per verb: `train`, `resume` and `extend`, `generate`,
`evaluate`, `attribute`, `export`.

``from likewise import load_recipe, train`` is the short way in.
"""

from likewise.api.attribution import attribute
from likewise.api.evaluation import Evaluation, evaluate
from likewise.api.exporting import Exported, export
from likewise.api.extending import extend
from likewise.api.generation import generate
from likewise.api.training import Outcome, resume, train

__all__ = [
    "Evaluation",
    "Exported",
    "Outcome",
    "attribute",
    "evaluate",
    "export",
    "extend",
    "generate",
    "resume",
    "train",
]
