"""Models by the names that recipes give them."""

from __future__ import annotations

import os
from pathlib import Path

from likewise import assets


def require_model(name: str, field: str) -> None:
    """See that a name can be a model's: a directory, a shipped one, or owner/name on the Hub.

    Args:
        field: Of the recipe that names it, for messages.

    Raises:
        ValueError: it can not.
    """
    if os.path.isdir(name) or name in assets.names():
        return
    if os.path.isfile(name):
        raise ValueError(
            f"{field}: {name} is a single file; wanted a folder in diffusers' format, as "
            "from_single_file and then save_pretrained of a diffusers pipeline write it"
        )
    if name.count("/") != 1 or os.path.isdir(os.path.dirname(name)):
        raise ValueError(
            f"{field}: there is no folder {name}, and no shipped model of that name "
            f"({', '.join(assets.names())}); on the Hub, models are named owner/name"
        )


def model_path(name: str) -> str:
    """Directory of a shipped model, or the name as it is: a directory, or on the Hub."""
    if not os.path.isdir(name) and name in assets.names():
        return str(assets.path(name))
    return str(Path(name)) if os.path.isdir(name) else name
