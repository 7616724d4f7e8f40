"""How the pictures of an iteration are drawn."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from likewise.config.section import Section

Fraction = Annotated[float, Field(gt=0, le=1)]


class AllSteps(Section):
    """Every stochastic step is trained."""

    kind: Literal["all"] = "all"


class RandomSteps(Section):
    """A random share of the steps, drawn anew in every iteration (the paper: 0.6)."""

    kind: Literal["random"] = "random"
    fraction: Fraction = 0.6


class WindowSteps(Section):
    """A window of steps is stochastic and trained, the others follow the ODE (MixGRPO)."""

    kind: Literal["window"] = "window"
    size: PositiveInt = Field(4, description="steps")
    first: int = Field(0, ge=0, description="earliest start of the window")
    last: int | None = Field(None, ge=0, description="latest start; default: as far as it goes")
    order: Literal["forward", "random"] = Field(
        "random", description="how the start moves: one step at a time, or at random"
    )
    every: PositiveInt = Field(1, description="iterations between moves")


TrainedSteps = Annotated[AllSteps | RandomSteps | WindowSteps, Field(discriminator="kind")]


class Rollout(Section):
    """One iteration's pictures: `tasks` groups of `group_size` members each."""

    tasks: PositiveInt = Field(
        16, le=100_000, description="groups per iteration, over all processes"
    )
    group_size: int = Field(12, ge=2, le=10_000, description="pictures per task; the paper 12")
    num_steps: PositiveInt = Field(10, le=1000, description="sampling steps T")
    shift: PositiveFloat | None = Field(
        None, ge=1e-3, le=1e3, description="static; null: the pipeline's own rule"
    )
    transition: Literal["flow-sde", "dance-sde", "cps", "ddim"] = Field(
        "flow-sde", description="ddim for models that predict epsilon or v, the others for flows"
    )
    noise_level: PositiveFloat = Field(
        0.7,
        ge=1e-3,
        le=10,
        description="a of Flow-SDE and CPS (0.7), eta of Dance-SDE (the paper 0.4) and DDIM (1)",
    )
    deterministic_tail: int = Field(
        0, ge=0, description="last steps that follow the ODE, so that no noise stays in pictures"
    )
    trained: TrainedSteps = Field(default_factory=RandomSteps)
    shared_noise: bool = Field(True, description="one initial noise per group (the paper)")
    micro_batch: PositiveInt = Field(16, description="pictures per forward, in rollout and update")

    @model_validator(mode="after")
    def _steps_fit(self) -> Rollout:
        stochastic = self.num_steps - self.deterministic_tail
        if stochastic < 1:
            raise ValueError("deterministic_tail must leave at least one of num_steps")
        if self.transition in ("cps", "ddim") and self.deterministic_tail < 1:
            raise ValueError(
                f"the last step of {self.transition} has no density to train: "
                "set deterministic_tail to 1 or more"
            )
        if self.transition in ("cps", "ddim") and self.noise_level > 1:
            raise ValueError(f"noise_level of {self.transition} must be at most 1")
        if self.transition == "ddim" and self.shift is not None:
            raise ValueError("shift is for flows: leave it out with ddim")
        if self.transition == "flow-sde" and self.num_steps < 2:
            raise ValueError("flow-sde needs num_steps of at least 2")
        if isinstance(self.trained, WindowSteps):
            latest = stochastic - self.trained.size
            last = latest if self.trained.last is None else self.trained.last
            if not 0 <= self.trained.first <= last <= latest:
                raise ValueError(
                    f"trained: a window of {self.trained.size} in {stochastic} stochastic steps "
                    f"can start at 0 to {latest}, not at {self.trained.first} to {last}"
                )
        return self
