"""What an update minimises: an objective on stored steps (grpo), or one on finished images."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt

from likewise.config.section import Section, usual_kind


class Grpo(Section):
    """The clipped surrogate on the SDE steps of a rollout, and its options."""

    forward: ClassVar[bool] = False
    of_groups: ClassVar[bool] = False

    kind: Literal["grpo"] = Field("grpo", description="PPO's clipped loss on stored steps")
    clip_range: PositiveFloat = Field(1e-4, le=1e3, description="largest |ratio - 1| that learns")
    kl: NonNegativeFloat = Field(0.0, description="weight of the KL to the frozen reference")
    guard: bool = Field(False, description="GRPO-Guard's normalised ratio; not for cps")
    inverse_dt: bool = Field(False, description="weigh terms by 1/(length of their step)")
    ratio_tolerance: NonNegativeFloat = Field(
        0.0, description="largest |ratio - 1| allowed before the first update"
    )

    @property
    def needs_reference(self) -> bool:
        """Whether the loss depends on the frozen reference."""
        return self.kl > 0


class OnPolicy(Section):
    """The old policy is the one that an iteration begins with."""

    kind: Literal["on-policy"] = "on-policy"


class Average(Section):
    """The old policy, which also draws, is a slow average: old ← η·old + (1 − η)·new after
    iteration n, η = min(rate·n, most) (DiffusionNFT, arXiv:2509.16117)."""

    kind: Literal["average"] = "average"
    rate: PositiveFloat = Field(1e-3, le=1, description="growth of η per iteration")
    most: float = Field(0.5, ge=0, lt=1, description="largest η")


class Forward(Section):
    """What all objectives on finished images share: images are drawn without noise but the first,
    noised again to some levels, and the velocities predicted there are compared."""

    forward: ClassVar[bool] = True
    of_groups: ClassVar[bool] = False  # the loss is of a whole group, no mean over its samples

    levels: Literal["grid", "uniform", "logit-normal"] = Field(
        "grid", description="noise levels: those of the sampling schedule, or drawn from (0, 1)"
    )
    draws: PositiveInt = Field(
        2, le=1000, description="levels, each with noise of its own, per image and update"
    )
    solver: Literal["euler", "dpm-solver++"] = Field(
        "euler", description="how images are drawn: first order, or second order (2M)"
    )
    num_steps: PositiveInt | None = Field(
        None, le=1000, description="steps that images are drawn in; null: rollout.num_steps"
    )
    old: Annotated[OnPolicy | Average, Field(discriminator="kind")] = Field(
        default_factory=OnPolicy
    )
    kl: NonNegativeFloat = Field(
        0.0, description="weight of the squared distance to the frozen reference's velocity"
    )
    kl_old: NonNegativeFloat = Field(
        0.0, description="weight of the squared distance to the old policy's velocity"
    )
    norm_guard: NonNegativeFloat = Field(
        0.0, description="weight of how far the velocity's norm exceeds the frozen reference's"
    )

    @property
    def needs_reference(self) -> bool:
        """Whether the loss depends on the frozen reference."""
        return self.kl > 0 or self.norm_guard > 0


class Nft(Forward):
    """DiffusionNFT (arXiv:2509.16117): towards good images and away from bad ones."""

    kind: Literal["nft"] = "nft"
    beta: PositiveFloat = Field(1.0, le=10, description="how far the two policies are apart")
    max_advantage: PositiveFloat = Field(
        5.0, description="|advantage| at which an image is entirely good or bad"
    )


class Awm(Forward):
    """Advantage-weighted matching (arXiv:2509.25050): PPO's clipped loss, with minus the
    flow-matching error as log-prob."""

    kind: Literal["awm"] = "awm"
    clip_range: PositiveFloat = Field(1.0, le=1e3, description="largest |ratio - 1| that learns")
    level_power: float = Field(
        0.0, ge=0, le=4, description="errors count by this power of the noise level: 0, 1 or 2"
    )


class Dgpo(Forward):
    """DGPO (arXiv:2510.08425): a preference for the better part of a group, over the reference."""

    of_groups: ClassVar[bool] = True

    kind: Literal["dgpo"] = "dgpo"
    beta: PositiveFloat = Field(100.0, le=1e6, description="scale of the preference")

    @property
    def needs_reference(self) -> bool:
        """Always: the preference is relative to it."""
        return True


class Crd(Forward):
    """CRD (arXiv:2603.14128): errors that fall by as much as the advantage says."""

    kind: Literal["crd"] = "crd"
    beta: PositiveFloat = Field(1.0, le=1e6, description="scale of the change of the error")


AnyObjective = Grpo | Nft | Awm | Dgpo | Crd
Objective = Annotated[Annotated[AnyObjective, Field(discriminator="kind")], usual_kind("grpo")]
