"""``module:name`` in a recipe: custom code."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable
from typing import Any


def load_target(target: str) -> Callable[..., Any]:
    """Import ``module:name``; modules in the working directory are found too.

    Raises:
        ImportError: there is no such module, or it fails to import.
        AttributeError: the module has no such name.
        TypeError: it is not callable.
    """
    module_name, _, name = target.partition(":")
    here = os.getcwd()
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        module = importlib.import_module(module_name)
    except Exception as error:  # whatever the user's module raises
        raise ImportError(f"{module_name} fails to import: {error!r}") from error
    found = getattr(module, name)
    if not callable(found):
        raise TypeError(f"{target} is a {type(found).__name__}, not a function")
    return found
