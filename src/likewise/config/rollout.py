"""How the images of an iteration are drawn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from likewise.config.section import Section

Fraction = Annotated[float, Field(gt=0, le=1)]


@dataclass(frozen=True)
class TransitionFacts:
    """What a recipe has to know of a transition, whose function is in `algorithm.transitions`.

    Attributes:
        flow: It is for models that predict a flow; else for those that predict epsilon or v.
        ends_random: Its last step draws noise too; else that step has no density to train.
        noise_rate: Its std is a noise rate times √(−dt), as GRPO-Guard needs it.
        most_noise: Largest `noise_level`; None: no bound of its own.
        least_steps: Fewest `num_steps`.
    """

    flow: bool = True
    ends_random: bool = False
    noise_rate: bool = False
    most_noise: float | None = None
    least_steps: int = 1


TRANSITIONS = {
    "flow-sde": TransitionFacts(ends_random=True, noise_rate=True, least_steps=2),
    "dance-sde": TransitionFacts(ends_random=True, noise_rate=True),
    "cps": TransitionFacts(most_noise=1),
    "ddim": TransitionFacts(flow=False, most_noise=1),
}

if TYPE_CHECKING:
    TransitionName = str
else:
    TransitionName = Literal[tuple(TRANSITIONS)]


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
    last: int | None = Field(
        None,
        ge=0,
        description="latest start, where there are so many steps; null: as far as it goes",
    )
    order: Literal["forward", "random"] = Field(
        "random", description="how the start moves: one step at a time, or at random"
    )
    every: PositiveInt = Field(1, description="iterations between moves")

    def starts(self, stochastic: int) -> range:
        """Where the window may begin, in so many stochastic steps."""
        latest = stochastic - self.size
        return range(self.first, 1 + (latest if self.last is None else min(self.last, latest)))


TrainedSteps = Annotated[AllSteps | RandomSteps | WindowSteps, Field(discriminator="kind")]


class Rollout(Section):
    """One iteration's images: `tasks` groups of `group_size` samples each."""

    tasks: PositiveInt = Field(
        16, le=100_000, description="groups per iteration, over all processes"
    )
    group_size: int = Field(12, ge=2, le=10_000, description="images per task; the paper 12")
    num_steps: PositiveInt = Field(10, le=1000, description="sampling steps T")
    shift: PositiveFloat | None = Field(
        None, ge=1e-3, le=1e3, description="static; null: the pipeline's own rule"
    )
    transition: TransitionName = Field(
        "flow-sde", description="ddim for models that predict epsilon or v, the others for flows"
    )
    noise_level: PositiveFloat = Field(
        0.7,
        ge=1e-3,
        le=10,
        description="a of Flow-SDE and CPS (0.7), eta of Dance-SDE (the paper 0.4) and DDIM (1)",
    )
    deterministic_tail: int = Field(
        0, ge=0, description="last steps that follow the ODE, so that no noise stays in images"
    )
    trained: TrainedSteps = Field(default_factory=RandomSteps)
    shared_noise: bool | None = Field(
        None,
        description="one initial noise per group (the paper), or one per image; null: one per "
        "group, but for objectives on finished images, which draw no other noise",
    )
    micro_batch: PositiveInt = Field(16, description="images per forward, in rollout and update")
    decode_batch: PositiveInt | None = Field(
        None, description="images that the VAE decodes at a time; null: micro_batch"
    )

    @property
    def transition_facts(self) -> TransitionFacts:
        """What has to be known of `transition`."""
        return TRANSITIONS[self.transition]

    @model_validator(mode="after")
    def _transition_fits(self) -> Rollout:
        name, facts = self.transition, self.transition_facts
        if not facts.ends_random and self.deterministic_tail < 1:
            raise ValueError(
                f"the last step of {name} has no density to train: set deterministic_tail to 1 "
                "or more"
            )
        if facts.most_noise is not None and self.noise_level > facts.most_noise:
            raise ValueError(f"noise_level of {name} must be at most {facts.most_noise:g}")
        if not facts.flow and self.shift is not None:
            raise ValueError(f"shift is for flows: leave it out with {name}")
        if self.num_steps < facts.least_steps:
            raise ValueError(f"{name} needs num_steps of at least {facts.least_steps}")
        return self

    @model_validator(mode="after")
    def _steps_fit(self) -> Rollout:
        stochastic = self.num_steps - self.deterministic_tail
        if stochastic < 1:
            raise ValueError("deterministic_tail must leave at least one of num_steps")
        if isinstance(self.trained, WindowSteps):
            window, latest = self.trained, stochastic - self.trained.size
            if not window.starts(stochastic):
                last = latest if window.last is None else window.last
                raise ValueError(
                    f"trained: a window of {window.size} in {stochastic} stochastic steps can "
                    f"start at 0 to {latest}, not at {window.first} to {last}"
                )
        return self
