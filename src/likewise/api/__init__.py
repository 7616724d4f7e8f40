"""The door from Python, one file per verb: `train` and `resume`, `generate`, `evaluate`.

``from likewise import load_recipe, train`` is the short way in.
"""

from likewise.api.evaluation import evaluate
from likewise.api.generation import generate
from likewise.api.training import Outcome, resume, train

__all__ = ["Outcome", "evaluate", "generate", "resume", "train"]
