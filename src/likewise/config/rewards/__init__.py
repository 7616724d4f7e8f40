"""The rewards of a recipe. Nothing here imports torch."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from likewise.config.rewards.encoders import (
    Clip,
    CopyIndex,
    Dino,
    HpsV3,
    InGroupDiversity,
    PickScore,
)
from likewise.config.rewards.endpoints import Remote, VlmJudge
from likewise.config.rewards.reward_section import RewardSection

__all__ = [
    "Clip",
    "CopyIndex",
    "Dino",
    "Function",
    "HpsV3",
    "InGroupDiversity",
    "PickScore",
    "Remote",
    "Reward",
    "VlmJudge",
]


class Function(RewardSection):
    """Any Python function ``(images, tasks) -> one number per image``."""

    kind: Literal["function"] = "function"
    target: str = Field(pattern=r"^[\w.]+:\w+$", description="module:function")


Reward = Annotated[
    Clip | Dino | PickScore | HpsV3 | CopyIndex | InGroupDiversity | Function | VlmJudge | Remote,
    Field(discriminator="kind"),
]
