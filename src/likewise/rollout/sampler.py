"""A sampling schedule with its stochastic transition: everything a step needs but the velocity."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from torch import Tensor

from likewise.algorithm import transitions
from likewise.algorithm.schedule import variance_preserving_alpha


@dataclass(frozen=True, eq=False)
class Sampler:
    """Takes step t of a schedule, at random or along the ODE. Arithmetic is float32.

    Attributes:
        sigmas: Noise levels [T+1] on the CPU, falling: float32 from 1 to 0, or with ``ddim``
            float64 √(1 − ᾱ), which may start below 1 and end above 0.
        transition: ``flow-sde``, ``dance-sde`` or ``cps``; ``ddim`` where the model predicts no
            flow, and only there.
        noise_level: a of Flow-SDE and CPS, η of Dance-SDE and DDIM.
        parameterization: What the model predicts: ``flow``, ``epsilon`` or ``v_prediction``.

    Raises:
        ValueError: transition and parameterization do not fit.
    """

    sigmas: Tensor
    transition: str
    noise_level: float
    parameterization: str = "flow"

    def __post_init__(self) -> None:
        if (self.transition == "ddim") == (self.parameterization == "flow"):
            raise ValueError(
                f"transition {self.transition!r} does not fit a model that predicts "
                f"{self.parameterization}: flow needs flow-sde, dance-sde or cps, epsilon and "
                "v_prediction need ddim"
            )

    @property
    def num_steps(self) -> int:
        return len(self.sigmas) - 1

    def stochastic(self, x: Tensor, v: Tensor, t: int) -> tuple[Tensor, Tensor]:
        """Mean like x, and std [1, …, 1] or without dimensions, of the transition at step t.

        Raises:
            ValueError: there is no such transition.
        """
        here, there = self.sigmas[t], self.sigmas[t + 1]
        level = self.noise_level
        if self.transition == "flow-sde":
            return transitions.flow_sde(x, v, here, there, level, self.sigmas[1])
        if self.transition == "dance-sde":
            return transitions.dance_sde(x, v, here, there, level)
        if self.transition == "cps":
            return transitions.cps(x, v, here, there, level)
        if self.transition == "ddim":
            return self._ddim(x, v, t, level)
        raise ValueError(f"no transition {self.transition!r}: flow-sde, dance-sde, cps or ddim")

    def deterministic(self, x: Tensor, v: Tensor, t: int) -> Tensor:
        """Where the ODE goes at step t: an Euler step for a flow, DDIM with η = 0 otherwise."""
        if self.parameterization != "flow":
            return self._ddim(x, v, t, 0.0)[0]
        return transitions.ode(x, v, self.sigmas[t], self.sigmas[t + 1])[0]

    def _ddim(self, x: Tensor, output: Tensor, t: int, eta: float) -> tuple[Tensor, Tensor]:
        here, there = variance_preserving_alpha(self.sigmas[t : t + 2])
        kind = cast(transitions.Parameterization, self.parameterization)  # it refuses others
        return transitions.ddim(x, output, here, there, eta, kind)
