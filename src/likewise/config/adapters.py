"""What of a policy is trained."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from likewise.config.section import Section


class Lora(Section):
    """Low-rank adapter by PEFT; the scale is alpha / rank."""

    kind: Literal["lora"] = "lora"
    rank: PositiveInt = Field(16, le=16384)
    alpha: PositiveFloat = Field(32.0, le=1e6)
    targets: str | list[str] = Field(
        "attention", description="a preset of the policy, or endings of module names"
    )
    start: str | None = Field(
        None,
        description="adapter to begin with: a run, a checkpoint, or a LoRA of diffusers, PEFT, "
        "ComfyUI or kohya; null: a fresh one",
    )
    reference: Literal["base", "start"] = Field(
        "base",
        description="what objective.kl compares with: the base model, or the base model with the "
        "adapter that training began with",
    )

    @model_validator(mode="after")
    def _reference_exists(self) -> Lora:
        if self.reference == "start" and self.start is None:
            raise ValueError("reference start needs an adapter to start from: set start")
        return self


class Full(Section):
    """Every weight of the transformer, in float32."""

    kind: Literal["full"] = "full"
