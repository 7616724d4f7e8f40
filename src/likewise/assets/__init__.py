"""The nano models that ship inside the package, each a directory in its library's own format.

`path("nano-kontext")` is what `FluxKontextPipeline.from_pretrained` takes; the encoders load the
same way with transformers.
"""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path

_HERE = Path(__file__).parent

# Each shipped model and the part of `likewise pretrain` that rebuilds it.
_REBUILT_BY = {
    "nano-kontext": "generator",  # FluxKontextPipeline
    "nano-dinov2": "identity",  # identity reward: Dinov2Model
    "nano-clip": "prompt",  # prompt reward: CLIPModel
    "evaluator-identity": "evaluators",  # evaluation only, never a reward
    "evaluator-prompt": "evaluators",  # evaluation only, never a reward
}


def names() -> tuple[str, ...]:
    """The models that ship with likewise."""
    return tuple(_REBUILT_BY)


def path(name: str) -> Path:
    """The directory of a shipped model.

    Raises ValueError for a name that is not one of `names()`, and FileNotFoundError where the
    model has not been built in this checkout.
    """
    if name not in _REBUILT_BY:
        near = get_close_matches(name, names(), n=1, cutoff=0.4)
        hint = f"did you mean {near[0]!r}?" if near else f"the names are {', '.join(names())}"
        raise ValueError(f"no shipped model is called {name!r}: {hint}")
    directory = _HERE / name
    if not directory.is_dir():
        raise FileNotFoundError(
            f"the shipped model {name!r} is missing from {_HERE}; "
            f"rebuild it with `likewise pretrain {_REBUILT_BY[name]}`"
        )
    return directory
