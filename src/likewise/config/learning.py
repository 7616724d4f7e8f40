"""What turns gradients into a better adapter: the optimiser."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt, model_validator

from likewise.config.gradient_rules import Gradients, Sum
from likewise.config.section import Section

Decay = Annotated[float, Field(ge=0, lt=1)]


class Optimizer(Section):
    """AdamW with a learning-rate schedule of diffusers."""

    learning_rate: PositiveFloat = Field(1e-4, le=10)
    betas: tuple[Decay, Decay] = (0.9, 0.999)
    weight_decay: NonNegativeFloat = Field(1.1e-4, le=100)
    eps: PositiveFloat = Field(
        1e-8, ge=1e-30, le=1, description="added to the root of the second moment, as in torch"
    )
    max_grad_norm: PositiveFloat = 1.0
    schedule: Literal["constant", "constant_with_warmup", "linear", "cosine"] = "constant"
    warmup_steps: int = Field(0, ge=0, description="optimiser steps")
    updates_per_iteration: PositiveInt = Field(
        1, description="optimiser steps per iteration, each on its share of the images"
    )
    split: Literal["tasks", "samples"] = Field(
        "tasks",
        description="what updates share out: tasks, with whole groups, or the samples of every "
        "group (the paper)",
    )
    ema_decay: Decay | None = Field(None, description="null: no moving average of the adapter")
    gradients: Gradients = Field(default_factory=Sum)

    @model_validator(mode="after")
    def _warmup_counts(self) -> Optimizer:
        if self.warmup_steps and self.schedule == "constant":
            raise ValueError("schedule constant has no warmup_steps: use constant_with_warmup")
        return self
