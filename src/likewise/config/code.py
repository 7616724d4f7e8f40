"""What a recipe asks to import: code of its owner's, named as ``module:name``."""

from __future__ import annotations

import re
from collections.abc import Collection

from likewise.config.policies import Custom
from likewise.config.recipe import Recipe
from likewise.config.rewards import Function

TARGET = re.compile(r"[\w.]+:\w+")
OPTION = "--trust-code"


def imported_by(recipe: Recipe) -> dict[str, str]:
    """Field → ``module:name`` of everything that is imported to build the recipe's parts."""
    found = {}
    if isinstance(recipe.policy, Custom):
        found["policy.target"] = recipe.policy.target
    for name, reward in recipe.rewards.items():
        if isinstance(reward, Function):
            found[f"rewards.{name}.target"] = reward.target
        segmenter = getattr(reward, "segmenter", None)
        if segmenter is not None and TARGET.fullmatch(segmenter):
            found[f"rewards.{name}.segmenter"] = segmenter
    return found


def require_trust(recipe: Recipe, source: object, sections: Collection[str]) -> None:
    """Refuse a recipe that somebody else may have written, where building it would import code.

    Args:
        source: Where the recipe is from, for the message.
        sections: Those that will be built.

    Raises:
        ValueError: one of them names code; the first field is given.
    """
    for field, target in imported_by(recipe).items():
        if field.partition(".")[0] in sections:
            raise ValueError(
                f"{source}: {field} of its recipe names {target}, which would be imported and run: "
                f"add {OPTION} (trust_code=True in Python) if you know what it does"
            )
