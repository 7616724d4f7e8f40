"""Models by the names that recipes give them."""

from __future__ import annotations

import os
from pathlib import Path

from likewise import assets


def model_path(name: str) -> str:
    """Directory of a shipped model, or the name as it is: a directory, or on the Hub."""
    if not os.path.isdir(name) and name in assets.names():
        return str(assets.path(name))
    return str(Path(name)) if os.path.isdir(name) else name
