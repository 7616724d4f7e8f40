"""The rewards of a recipe. This module does not import torch."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat

from likewise.config.section import Section

Side = Literal["prompt", "identity"]


class RewardSection(Section):
    """What every reward has. Its name is its key under `rewards`."""

    side: Side = Field(description="which side of the conflict it stands for (TDW)")
    weight: NonNegativeFloat = Field(
        1.0, description="used by the weighted-sum, raw-sum and gdpo shapings only"
    )


class Clip(RewardSection):
    """CLIP's image-text cosine (CLIP-T): does the picture show what was asked for?"""

    kind: Literal["clip"] = "clip"
    side: Side = "prompt"
    model: str = Field("nano-clip", description="shipped model, directory, or Hub name")


class Dino(RewardSection):
    """DINOv2's CLS cosine: is it the same subject?"""

    kind: Literal["dino"] = "dino"
    side: Side = "identity"
    model: str = Field("nano-dinov2", description="shipped model, directory, or Hub name")
    segment: bool = Field(False, description="against the segmented reference (the paper)")


class Function(RewardSection):
    """Any Python function ``(images, tasks) -> one number per image``."""

    kind: Literal["function"] = "function"
    target: str = Field(pattern=r"^[\w.]+:\w+$", description="module:function")


Reward = Annotated[Clip | Dino | Function, Field(discriminator="kind")]
