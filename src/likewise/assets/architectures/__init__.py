"""Descriptions of published models, so that a run can be planned without weights or network.

Each is a directory under the model's Hub name, with the files that decide shapes and sampling
(`model_index.json`, each part's `config.json`, `scheduler_config.json`) and nothing else: no
weights, no tokenizers. `SOURCES.md` says where each number was read.
"""

from __future__ import annotations

from pathlib import Path

from likewise import assets

_HERE = Path(__file__).parent


def names() -> tuple[str, ...]:
    """The Hub names of the described models, sorted."""
    models = (model for owner in _HERE.iterdir() if owner.is_dir() for model in owner.iterdir())
    return tuple(sorted(model.relative_to(_HERE).as_posix() for model in models if model.is_dir()))


def folder(model: str | Path) -> Path:
    """Where a model's configs are: in its own directory, else among the shipped nano models, else
    in the description that ships under this Hub name.

    Raises ValueError, which lists the described models, for any other name.
    """
    if Path(model).is_dir():
        return Path(model)
    name = str(model)
    if name in assets.names():
        return assets.path(name)
    if name not in names():
        raise ValueError(
            f"{name!r} is not a directory, and no description of it ships with likewise: "
            f"download its configs and name their directory, or choose from {', '.join(names())}"
        )
    return _HERE / name
