"""How the gradients of several rewards become one direction, and how often their conflict is
measured."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal

from pydantic import Field, NonNegativeInt

from likewise.config.credit_rules import Constant, Credit
from likewise.config.objectives import Objective
from likewise.config.section import Section, usual_kind


class GradientRule(Section):
    """What all rules share."""

    combines: ClassVar[bool] = True

    kind: str
    measure_every: NonNegativeInt = Field(
        0,
        description="in iteration 1 and every so many after it, log the cosine of the prompt's and "
        "the identity's gradient at each trained step, which changes nothing that is learned; "
        "0: never",
    )

    @property
    def takes_apart(self) -> bool:
        """Whether any iteration needs the gradient of each reward."""
        return self.combines or self.measure_every > 0


class Sum(GradientRule):
    """The gradient of the whole advantage, by one backward pass."""

    combines: ClassVar[bool] = False

    kind: Literal["sum"] = "sum"


class MinNorm(GradientRule):
    """The shortest convex combination of the rewards' gradients (MGDA), which raises all rewards
    or none."""

    kind: Literal["min-norm"] = "min-norm"
    normalise: bool = Field(
        True,
        description="give all gradients one length first; without, the shortest of them decides. "
        "Two of one length always count alike",
    )
    smoothing: float = Field(
        0.9,
        ge=0,
        lt=1,
        description="decay of the weights' moving average over optimiser steps; 0: none",
    )


class PcGrad(GradientRule):
    """Gradients without the parts that point against each other, added up (PCGrad)."""

    kind: Literal["pcgrad"] = "pcgrad"
    normalise: bool = Field(True, description="give all gradients one length first")
    smoothing: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="decay of the weights' moving average over optimiser steps; 0: none, as "
        "published",
    )


Gradients = Annotated[
    Annotated[Sum | MinNorm | PcGrad, Field(discriminator="kind")],
    usual_kind("sum"),
]


def check_gradients(
    gradients: GradientRule, credit: Credit, sides: Sequence[str], objective: Objective
) -> None:
    """Gradients of single rewards exist where they are asked for.

    Args:
        sides: Of the credited rewards.

    Raises:
        ValueError: they do not.
    """
    if not gradients.takes_apart:
        return
    asked = "kind " + gradients.kind if gradients.combines else "measure_every"
    asked, shaping, weights = f"optimizer.gradients.{asked}", credit.shaping, credit.time_weights
    if shaping.stands_alone:
        raise ValueError(
            f"{asked} needs a part of the advantage for each reward, but credit.shaping "
            f"{shaping.kind!r} combines all rewards into one: use none, sars or harmonic"
        )
    if shaping.needs_gains:
        raise ValueError(
            f"{asked} takes apart weighted sums of z, but credit.shaping {shaping.kind!r} has a z "
            "of its own at each step: use none, sars or harmonic"
        )
    if objective.of_groups:
        raise ValueError(
            f"{asked} needs a loss for each reward, but objective {objective.kind} has one "
            "preference of a whole group and all its rewards: use grpo, nft, awm or crd"
        )
    if len(set(sides)) == 2 and isinstance(weights, Constant) and weights.prompt in (0, 1):
        raise ValueError(
            f"{asked} is about gradients of both sides, but credit.time_weights.prompt "
            f"{weights.prompt:g} leaves one of them none: choose a number between 0 and 1"
        )
    if gradients.measure_every and len(set(sides)) < 2:
        raise ValueError(
            "optimizer.gradients.measure_every compares the prompt's gradient with the identity's, "
            f"but all rewards are of side {sides[0]}: leave it out"
        )
    if gradients.combines and len(sides) < 2:
        raise ValueError(f"{asked} needs at least two rewards, diagnostics aside: leave it out")
