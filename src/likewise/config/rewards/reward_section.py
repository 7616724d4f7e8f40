"""What every reward of a recipe has."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, NonNegativeFloat, model_validator

from likewise.config.section import Section

Side = Literal["prompt", "identity"]  # of the conflict
Role = Side | Literal["diagnostic"]


class RewardSection(Section):
    """What every reward has. Its name is its key under `rewards`."""

    side: Role = Field(
        description="which side of the conflict it stands for (TDW); diagnostic: it is measured "
        "and recorded, and has no part in credit"
    )
    weight: NonNegativeFloat = Field(
        1.0,
        description="used by the shapings weighted-sum, raw-sum, gdpo, gd2po and hinge-gate only",
    )

    @model_validator(mode="after")
    def _diagnostics_weigh_nothing(self) -> Self:
        if self.side == "diagnostic" and self.weight != 1:
            raise ValueError("weight means nothing for a diagnostic: leave it out")
        return self
