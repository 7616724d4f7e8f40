"""What of a policy is trained."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, PositiveFloat, PositiveInt

from likewise.config.section import Section


class Lora(Section):
    """Low-rank adapter by PEFT; the scale is alpha / rank."""

    kind: Literal["lora"] = "lora"
    rank: PositiveInt = 16
    alpha: PositiveFloat = 32.0
    targets: str | list[str] = Field(
        "attention", description="a preset of the policy, or endings of module names"
    )


class Full(Section):
    """Every weight of the transformer, in float32."""

    kind: Literal["full"] = "full"
