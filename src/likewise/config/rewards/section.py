"""What every reward of a recipe has."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, NonNegativeFloat

from likewise.config.section import Section

Side = Literal["prompt", "identity"]  # of the conflict


class RewardSection(Section):
    """What every reward has. Its name is its key under `rewards`."""

    side: Side | Literal["diagnostic"] = Field(
        description="which side of the conflict it stands for (TDW); diagnostic: it is measured "
        "and recorded, and has no part in credit"
    )
    weight: NonNegativeFloat = Field(
        1.0, description="used by the weighted-sum, raw-sum and gdpo shapings only"
    )
