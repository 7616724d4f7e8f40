"""Whether shares of steps can be measured from the samples that a run draws anyway."""

from __future__ import annotations

from likewise.config.objectives import Objective
from likewise.config.rollout import Rollout, WindowSteps


def check_refresh(every: int, rollout: Rollout, objective: Objective) -> None:
    """Refuse rollouts in which a group's samples differ by more than the noise of known steps.

    Args:
        every: Iterations between two measurements.

    Raises:
        ValueError: samples differ by their first noise or by the noise of all steps, or windows do
            not pass over all of their steps between two measurements.
    """
    trained, field = rollout.trained, "credit.time_weights.refresh"
    if objective.forward or rollout.shared_noise is False:
        why = f"objective {objective.kind}" if objective.forward else "rollout.shared_noise=false"
        raise ValueError(
            f"{field} measures what the noise of a few steps does, but with {why} samples of a "
            "group differ by their first noise too: leave it out"
        )
    if not isinstance(trained, WindowSteps) or trained.order != "forward":
        raise ValueError(
            f"{field} needs to know whose noise a group's samples differ by, step after step: set "
            "rollout.trained to kind window with order forward"
        )
    starts = trained.starts(rollout.num_steps - rollout.deterministic_tail)
    if every < len(starts) * trained.every:
        raise ValueError(
            f"{field} is {every}, but windows pass over their steps once in "
            f"{len(starts) * trained.every} iterations: set at least that"
        )
