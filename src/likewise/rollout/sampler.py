"""A sampling schedule with its stochastic transition: everything a step needs but the velocity."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, cast

from torch import Tensor

from likewise.algorithm.transitions import (
    TRANSITIONS,
    Parameterization,
    StepContext,
    gaussian_log_prob,
    ode,
)
from likewise.config.problems import nearest
from likewise.config.rollout import TRANSITIONS as FACTS


class SDEStep(NamedTuple):
    """One step that was drawn at random.

    Attributes:
        following: The latents that it leads to, like x.
        mean: Of the transition, like x.
        std: Of the transition, [1, …, 1] or without dimensions.
    """

    following: Tensor
    mean: Tensor
    std: Tensor

    def log_prob(self) -> Tensor:
        """Log-density of what was drawn, float32 [B]: see `transitions.gaussian_log_prob`."""
        return gaussian_log_prob(*self)


@dataclass(frozen=True, eq=False)
class Sampler:
    """Takes step t of a schedule, at random or along the ODE. Arithmetic is float32.

    Attributes:
        sigmas: Noise levels [T+1] on the CPU, falling: float32 from 1 to 0, or with ``ddim``
            float64 √(1 − ᾱ), which may start below 1 and end above 0.
        transition: Name of one of ``transitions.TRANSITIONS``; ``ddim`` where the model predicts no
            flow, and only there.
        noise_level: a of Flow-SDE and CPS, η of Dance-SDE and DDIM.
        parameterization: What the model predicts: ``flow``, ``epsilon`` or ``v_prediction``.

    Raises:
        ValueError: there is no such transition, or it does not fit the parameterization.
    """

    sigmas: Tensor
    transition: str
    noise_level: float
    parameterization: str = "flow"

    def __post_init__(self) -> None:
        if self.transition not in FACTS:
            raise ValueError(
                f"no transition {self.transition!r}; {nearest(self.transition, FACTS)}"
            )
        flow = self.parameterization == "flow"
        if FACTS[self.transition].flow != flow:
            suited = [name for name, facts in FACTS.items() if facts.flow == flow]
            raise ValueError(
                f"transition {self.transition!r} does not fit a model that predicts "
                f"{self.parameterization}: that needs {' or '.join(suited)}"
            )

    @property
    def num_steps(self) -> int:
        return len(self.sigmas) - 1

    def step(self, x: Tensor, v: Tensor, t: int, noise: Tensor) -> SDEStep:
        """Step t at random: mean + std·noise.

        Args:
            x, v: Latents and velocity [B, …].
            noise: Standard normal, like x.
        """
        mean, std = self.stochastic(x, v, t)
        return SDEStep(mean + std * noise, mean, std)

    def stochastic(self, x: Tensor, v: Tensor, t: int) -> tuple[Tensor, Tensor]:
        """Mean like x, and std [1, …, 1] or without dimensions, of the transition at step t."""
        return TRANSITIONS[self.transition](x, v, self._context(t), self.noise_level)

    def deterministic(self, x: Tensor, v: Tensor, t: int) -> Tensor:
        """Where the ODE goes at step t: an Euler step for a flow, DDIM with η = 0 otherwise."""
        if self.parameterization == "flow":
            return ode(x, v, self.sigmas[t], self.sigmas[t + 1])[0]
        return TRANSITIONS["ddim"](x, v, self._context(t), 0.0)[0]

    def _context(self, t: int) -> StepContext:
        kind = cast(Parameterization, self.parameterization)  # only `ddim` reads it
        return StepContext(self.sigmas[t], self.sigmas[t + 1], self.sigmas[1], kind)
