"""What a recipe asks for that its reader may not want: code to import, and secrets to send."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator

from likewise.config.policy_sections import Custom
from likewise.config.recipe import Recipe
from likewise.config.rewards import Function, Reward

TARGET = re.compile(r"[\w.]+:\w+")
OPTION = "--trust-code"


def imported_by(recipe: Recipe) -> dict[str, str]:
    """Field → ``module:name`` of everything that is imported to build the recipe's parts."""
    found = {}
    if isinstance(recipe.policy, Custom):
        found["policy.target"] = recipe.policy.target
    for field, scorer in _scorers(recipe):
        if isinstance(scorer, Function):
            found[f"{field}.target"] = scorer.target
        segmenter = getattr(scorer, "segmenter", None)
        if segmenter is not None and TARGET.fullmatch(segmenter):
            found[f"{field}.segmenter"] = segmenter
    return found


def sent_by(recipe: Recipe) -> dict[str, str]:
    """Field → environment variable of every secret that is sent to an address in the recipe."""
    found = {}
    for field, scorer in _scorers(recipe):
        for setting in ("api_key_env", "token_env"):
            variable = getattr(scorer, setting, None)
            if variable is not None:
                found[f"{field}.{setting}"] = variable
    return found


def _scorers(recipe: Recipe) -> Iterator[tuple[str, Reward]]:
    """Rewards and held-out evaluators, with their fields."""
    for section, scorers in (("rewards", recipe.rewards), ("evaluators", recipe.evaluators or {})):
        yield from ((f"{section}.{name}", scorer) for name, scorer in scorers.items())


def require_trust(recipe: Recipe, source: object, sections: Collection[str]) -> None:
    """Refuse a recipe of somebody else's, where building it would import code or send secrets.

    Args:
        source: Where the recipe is from, for the message.
        sections: Those that will be built.

    Raises:
        ValueError: one of them names either; the first field is given.
    """
    asked = {
        field: f"{one}, which would be imported and run"
        for field, one in imported_by(recipe).items()
    }
    asked |= {field: f"${one}, which would be sent away" for field, one in sent_by(recipe).items()}
    for field, what in asked.items():
        if field.partition(".")[0] in sections:
            raise ValueError(
                f"{source}: {field} of its recipe names {what}: add {OPTION} (trust_code=True in "
                "Python) if you know what it does"
            )
