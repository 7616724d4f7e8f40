"""What a run is made of: plug-ins, known by protocol only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from likewise.protocols import AnyReward, Policy, Reward, TaskStream
from likewise.rollout.sampler import Sampler
from likewise.types import Task


@dataclass(frozen=True)
class Parts:
    """What `builders` puts together from a recipe.

    Attributes:
        policy: With its adapter, on its device.
        sampler: Its schedule and transition.
        rewards: By name, in the recipe's order.
        stream: Training tasks.
        evaluation_tasks: The fixed set; may be empty.
        evaluators: Scorers that training never sees, by name.
        fingerprints: Of the datasets, by dotted name in the recipe.
    """

    policy: Policy
    sampler: Sampler
    rewards: Mapping[str, AnyReward]
    stream: TaskStream
    evaluation_tasks: Sequence[Task]
    evaluators: Mapping[str, Reward]
    fingerprints: Mapping[str, str] = field(default_factory=dict)
