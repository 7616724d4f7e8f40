"""A sampling schedule with its stochastic transition: everything a step needs but the velocity."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from likewise.algorithm import transitions


@dataclass(frozen=True, eq=False)
class Sampler:
    """Takes step t of a schedule, at random or along the ODE. Arithmetic is float32.

    Attributes:
        sigmas: Noise levels, float32 [T+1] on the CPU, from 1 down to 0.
        transition: ``flow-sde``, ``dance-sde`` or ``cps``.
        noise_level: a of Flow-SDE and CPS, η of Dance-SDE.
    """

    sigmas: Tensor
    transition: str
    noise_level: float

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
        raise ValueError(f"no transition {self.transition!r}: flow-sde, dance-sde or cps")

    def deterministic(self, x: Tensor, v: Tensor, t: int) -> Tensor:
        """Where the ODE goes at step t."""
        return transitions.ode(x, v, self.sigmas[t], self.sigmas[t + 1])[0]
