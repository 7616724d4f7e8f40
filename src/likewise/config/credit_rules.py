"""Who gets credit: shaping of rewards, and their weights over the steps."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, get_args

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt, model_validator

from likewise.config.problems import kinds
from likewise.config.rewards.reward_section import Side
from likewise.config.section import Section

Share = Annotated[float, Field(ge=0, le=1)]


class Rule(Section):
    """A credit rule; `algorithm.rules.RULES` has a function of the same name for each kind.

    Attributes:
        stands_alone: Its advantages are the same at every step, so time weights have no effect.
        weighted: It reads the `weight` of each reward.
        needs_several: It compares rewards, so it needs at least two.
        needs_both_sides: It sets one side against the other, so each needs a reward with a weight.
        needs_gains: It credits each step with what its noise changed, so that images have to be
            finished along the ODE from trained steps, and scored, beside the samples.
    """

    stands_alone: ClassVar[bool] = False
    weighted: ClassVar[bool] = False
    needs_several: ClassVar[bool] = False
    needs_both_sides: ClassVar[bool] = False
    needs_gains: ClassVar[bool] = False

    def depends_on(self, reward: str, weight: float) -> bool:
        """Whether credit depends on that reward, apart from its share in the time weights."""
        return weight > 0 or not self.weighted


class Sars(Rule):
    """Synergy-Aware Reward Shaping: a term on top of the weighted sum (the paper)."""

    needs_several: ClassVar[bool] = True

    kind: Literal["sars"] = "sars"
    gamma: NonNegativeFloat = Field(0.4, le=1e6, description="the paper's run 0.4, also 0.5")

    def depends_on(self, reward: str, weight: float) -> bool:
        return self.gamma > 0


class Harmonic(Rule):
    """Half the harmonic mean, made safe, as a term on top of the weighted sum."""

    needs_several: ClassVar[bool] = True

    kind: Literal["harmonic"] = "harmonic"
    gamma: NonNegativeFloat = Field(0.4, le=1e6)

    def depends_on(self, reward: str, weight: float) -> bool:
        return self.gamma > 0


class NoShaping(Rule):
    """The weighted sum of z-scores alone: the naive baseline."""

    kind: Literal["none"] = "none"

    def depends_on(self, reward: str, weight: float) -> bool:
        return False


class Gains(Rule):
    """The weighted sum of what the noise of each step changed, instead of what all of it did.

    Per-step gains of Stepwise-Flow-GRPO (2603.28718) and TurningPoint-GRPO (2602.06422).
    """

    needs_gains: ClassVar[bool] = True

    kind: Literal["gains"] = "gains"
    turning: bool = Field(
        False,
        description="at steps where the trend of a sample's reward turns, the change over the "
        "whole rest of the way counts instead of the step's own (TurningPoint-GRPO)",
    )
    whiten: Literal["group", "step"] = Field(
        "group",
        description="over what gains get mean 0 and std 1: all samples and steps of a group at "
        "once, or the samples of a group at each step (TurningPoint-GRPO)",
    )

    def depends_on(self, reward: str, weight: float) -> bool:
        return False


class Combined(Rule):
    """A rival that replaces the weighted sum, and has no settings of its own."""

    stands_alone: ClassVar[bool] = True
    needs_several: ClassVar[bool] = True

    kind: Literal["minimum", "maximum", "product"]


class WeightedSum(Rule):
    """A rival that replaces the weighted sum by one in which the `weight` of each reward counts.

    weighted-sum: of z-scores. gdpo: that, normalised over the batch. raw-sum: of raw rewards, then
    one z-score (Flow-GRPO).
    """

    stands_alone: ClassVar[bool] = True
    weighted: ClassVar[bool] = True

    kind: Literal["weighted-sum", "gdpo", "raw-sum"]


class Gd2po(Rule):
    """GDPO without the samples whose rewards disagree (2606.16771), by the `weight` of rewards."""

    stands_alone: ClassVar[bool] = True
    weighted: ClassVar[bool] = True
    needs_several: ClassVar[bool] = True

    kind: Literal["gd2po"] = "gd2po"
    threshold: float = Field(
        1.0,
        gt=0,
        le=1,
        description="a sample is dropped where |sum of its weighted z| is less than this share of "
        "the sum of their sizes; 1: wherever signs differ (hard), 0.2 to 0.8: where they nearly "
        "cancel (soft)",
    )
    whiten: Literal["batch", "group"] = Field(
        "batch",
        description="over what advantages get mean 0 and std 1: all kept samples of the batch, as "
        "published, or those of each group",
    )


class HingeGate(Rule):
    """The rewards of one side, less a penalty where the other side's fall below a floor (DivRL).

    Both are raw rewards; where a side has several, their sum by `weight`.
    """

    stands_alone: ClassVar[bool] = True
    weighted: ClassVar[bool] = True
    needs_both_sides: ClassVar[bool] = True

    kind: Literal["hinge-gate"] = "hinge-gate"
    gate: Side = Field(
        "identity", description="side that must not fall below its floor; the other is the main one"
    )
    penalty: PositiveFloat = Field(
        5.0, le=1e6, description="times the squared distance below the floor (published: 5)"
    )
    floor: Annotated[float, Field(ge=-1e6, le=1e6)] | Literal["measured"] = Field(
        "measured",
        description="of the gate's raw reward; measured: its mean over the samples of iteration 1, "
        "which the untrained model draws, by kind of task",
    )


class Single(Rule):
    """Train on one reward only; the others are measured."""

    stands_alone: ClassVar[bool] = True

    kind: Literal["single"] = "single"
    reward: str = Field(description="its key under `rewards`")

    def depends_on(self, reward: str, weight: float) -> bool:
        return reward == self.reward


Shaping = Annotated[
    Sars | Harmonic | NoShaping | Gains | Combined | WeightedSum | Gd2po | HingeGate | Single,
    Field(discriminator="kind"),
]
READ_WEIGHTS = [  # kinds of rules that read the `weight` of rewards
    kind for rule in get_args(get_args(Shaping)[0]) if rule.weighted for kind in kinds(rule)
]


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
    power: float = Field(
        1.0,
        gt=0,
        le=4,
        description="weights are as this power of the shares; 0.5 fits windows, where z is in "
        "units of what the window decides",
    )
    refresh: PositiveInt | None = Field(
        None,
        description="iterations after which shares are measured anew, from how far rewards differ "
        "inside the groups drawn since; null: never",
    )

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
    def _combined_rewards_ignore_time(self) -> Credit:
        if self.shaping.stands_alone and not isinstance(self.time_weights, Constant):
            raise ValueError(
                f"shaping {self.shaping.kind!r} does not depend on the step: "
                "set time_weights.kind to constant"
            )
        return self
