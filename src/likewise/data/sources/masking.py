"""Checks that rewards which compare subjects alone have masks or a segmenter."""

from __future__ import annotations

import logging

from likewise.config.recipe import Recipe
from likewise.config.rewards import Dino

LOG = logging.getLogger(__name__)


def check_masks(recipe: Recipe, unmasked: int, rows: int) -> None:
    """Compare what the rewards need with the masks that there are.

    Args:
        unmasked: How many of the `rows` of a dataset have no mask of their reference.

    Raises:
        ValueError: a reward needs masks, has no segmenter to make them, and no row has one: it
            would be missing for every image.
    """
    needy = [
        f"rewards.{name}"
        for name, one in recipe.rewards.items()
        if isinstance(one, Dino) and one.segment and one.segmenter is None
    ]
    if not needy or not unmasked:
        return
    field, names = needy[0], " and ".join(needy)
    if unmasked < rows:
        LOG.warning(
            "data: %s of %s rows have no mask: there, %s is missing",
            f"{unmasked:,}",
            f"{rows:,}",
            names,
        )
        return
    raise ValueError(
        f"{names}: segment is true, so references are compared without their backgrounds, but no "
        f"row of {getattr(recipe.data, 'path', 'the data')} has a mask. Add masks (docs/data.md), "
        f"name a model that finds subjects ({field}.segmenter=…, docs/rewards.md), or compare with "
        f"whole images ({field}.segment=false)"
    )
