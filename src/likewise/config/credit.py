"""Who gets credit: shaping of rewards, and their weights over the steps."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat, model_validator

from likewise.config.section import Section

Share = Annotated[float, Field(ge=0, le=1)]


class Sars(Section):
    """Synergy-Aware Reward Shaping: a bonus on top of the weighted sum (the paper)."""

    kind: Literal["sars"] = "sars"
    gamma: NonNegativeFloat = Field(0.4, le=1e6, description="the paper's run 0.4, also 0.5")


class HarmonicBonus(Section):
    """Half the harmonic mean, made safe, as a bonus on top of the weighted sum."""

    kind: Literal["harmonic"] = "harmonic"
    gamma: NonNegativeFloat = Field(0.4, le=1e6)


class NoShaping(Section):
    """The weighted sum of z-scores alone: the naive baseline."""

    kind: Literal["none"] = "none"


class Total(Section):
    """A rival that replaces the weighted sum. `weight` of each reward counts where marked *.

    minimum, maximum, product: of z-scores. weighted-sum*: of z-scores. gdpo*: that, normalised over
    the batch. raw-sum*: of raw rewards, then one z-score (Flow-GRPO).
    """

    kind: Literal["minimum", "maximum", "product", "weighted-sum", "gdpo", "raw-sum"]


class Single(Section):
    """Train on one reward only; the others are measured."""

    kind: Literal["single"] = "single"
    reward: str = Field(description="its key under `rewards`")


Shaping = Annotated[Sars | HarmonicBonus | NoShaping | Total | Single, Field(discriminator="kind")]


class Tdw(Section):
    """Time-Aware Dynamic Weighting of the prompt side, or a rival with the same three weights."""

    kind: Literal["tdw", "reversed-tdw", "tdw-as-released"] = "tdw"
    high: Share = 0.7
    low: Share = 0.3
    final: Share = 0.5


class Constant(Section):
    """The same weights at every step."""

    kind: Literal["constant"] = "constant"
    prompt: Share = Field(0.5, description="of the prompt side; identity has the rest")


class Measured(Section):
    """By how much the noise of each step moves the rewards of each side: `likewise attribute`."""

    kind: Literal["measured"] = "measured"
    prompt: list[NonNegativeFloat] = Field(
        description="share of each of num_steps steps in the prompt rewards' variance"
    )
    identity: list[NonNegativeFloat] = Field(description="likewise of the identity rewards'")

    @model_validator(mode="after")
    def _somewhere(self) -> Measured:
        for side in ("prompt", "identity"):
            if not any(getattr(self, side)):
                raise ValueError(f"{side} needs at least one share above 0")
        return self


TimeWeights = Annotated[Tdw | Constant | Measured, Field(discriminator="kind")]


class Credit(Section):
    """From raw rewards to advantages."""

    shaping: Shaping = Field(default_factory=Sars)
    time_weights: TimeWeights = Field(default_factory=Tdw)
    clip: PositiveFloat = Field(5.0, le=1e6, description="bound of |advantage|")
    std_floor: NonNegativeFloat = Field(
        1e-6, description="groups whose rewards differ less give no credit; units of the reward"
    )

    @model_validator(mode="after")
    def _totals_ignore_time(self) -> Credit:
        if isinstance(self.shaping, Total | Single) and not isinstance(self.time_weights, Constant):
            raise ValueError(
                f"shaping {self.shaping.kind!r} does not depend on the step: "
                "set time_weights.kind to constant"
            )
        return self
