"""Images that trained steps lead to along the ODE, for rules that credit single steps.

A sample's latents before and after a trained step are finished without further noise, and scored
beside the sample: the difference is what the noise of that step was worth (docs/method.md §2). With
neighbouring steps, the image after one is the image before the next. Where a group is still one
latent, one image stands for all its samples; where no noise follows, the sample itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from likewise.protocols import AnyReward, Condition
from likewise.rollout.layout import Indices
from likewise.rollout.scoring import Scores, add_troubles
from likewise.rollout.solvers import integrate
from likewise.rollout.spoilt import AskedUsable
from likewise.rollout.steps import StepPlan
from likewise.rollout.trajectories import Fork, Roller, Tasks, Trajectory


def starts(plan: StepPlan) -> tuple[int, ...]:
    """Steps before which latents have to be finished: before and after each trained one, but not
    where no noise follows."""
    last = max(plan.stochastic, default=-1)
    return tuple(sorted({s for t in plan.trained for s in (t, t + 1) if s <= last}))


@dataclass(frozen=True)
class Finish:
    """n images that latents before one step lead to.

    Attributes:
        step: True index of that step.
        latents: Finished, float32 [n, *latent].
        tasks: Which task of the iteration each image is of.
        indices: Samples that the latents are of.
        images: Which image each of them leads to.
    """

    step: int
    latents: Tensor
    tasks: Sequence[int]
    indices: Indices
    images: Sequence[int]


class Finisher:
    """Finishes what a roller draws in one iteration.

    Args:
        needed: Whether the credit rule needs it; nothing is finished otherwise.
    """

    def __init__(self, roller: Roller, needed: bool) -> None:
        self.roller, self.starts = roller, starts(roller.plan) if needed else ()
        self._forks: set[Fork] = set()  # that are finished

    def finish(self, trajectory: Trajectory) -> list[Finish]:
        """Of a micro-batch; and of a fork, with the first one that comes from there."""
        found: list[Finish] = []
        latents: dict[int, Tensor] = {}
        for one in trajectory.stored if self.starts else ():
            latents[one.step + 1] = one.following
            if one.fork is None:
                latents[one.step] = one.x
            elif one.fork not in self._forks:
                self._forks.add(one.fork)
                found += self._of_fork(one.fork, one.step)
        images = range(len(trajectory.indices))
        for step in self.starts:
            if step in latents:
                ends = self._integrate(latents[step], trajectory.condition, step)
                found.append(Finish(step, ends, trajectory.tasks, trajectory.indices, images))
        return found

    def _of_fork(self, fork: Fork, step: int) -> Iterator[Finish]:
        """One image for each task, which is that of all its samples in this process."""
        roller, tasks = self.roller, list(self.roller.positions)
        for number, (condition, x) in enumerate(fork.parts):
            first = number * fork.size
            here = {task: image for image, task in enumerate(tasks[first : first + fork.size])}
            group_size = roller.settings.group_size
            indices = [index for index in roller.indices if index // group_size in here]
            images = [here[index // group_size] for index in indices]
            ends = self._integrate(x, condition, step)
            yield Finish(step, ends, list(here), tuple(indices), images)

    def _integrate(self, x: Tensor, condition: Condition, step: int) -> Tensor:
        roller = self.roller
        steps = range(step, roller.sampler.num_steps)
        return integrate(roller.policy, roller.sampler, x, condition, steps)


class AskedFinish(AskedUsable):
    """Questions about the images of a finish.

    Args:
        decoded: Its images, float32 [n, 3, H, W] in [0, 1].
        tasks: Of the iteration.
    """

    def __init__(
        self,
        finish: Finish,
        rewards: Mapping[str, AnyReward],
        decoded: Tensor,
        tasks: Tasks,
    ) -> None:
        super().__init__(rewards, decoded, [tasks[number] for number in finish.tasks])
        self.step, self.indices, self.images = finish.step, finish.indices, list(finish.images)


def add_finishes(
    shares: Sequence[tuple[Indices, Scores]],
    finishes: Sequence[tuple[AskedFinish, Scores]],
    names: Sequence[str],
    plan: StepPlan,
    num_steps: int,
) -> list[tuple[Indices, Scores]]:
    """The scores of a process's samples, with `finished` filled in.

    Failures, counts and spoilt images of finishes are added to the first share's.

    Args:
        names: Of all rewards, in the order of the shares' scores; finishes may know fewer.
    """
    nothing = torch.full((len(names), num_steps + 1), torch.nan)
    table = {index: nothing.clone() for indices, _ in shares for index in indices}
    for asked, scores in finishes:
        own, known = [names.index(name) for name in asked.all_names], _known(scores)
        for index, image in zip(asked.indices, asked.images, strict=True):
            table[index][own, asked.step] = known[:, image]
    last = max(plan.stochastic, default=-1)
    without_noise = [t + 1 for t in plan.trained if t + 1 > last]
    found = []
    for indices, scores in shares:
        finished = torch.stack([table[index] for index in indices], dim=1)
        finished[..., without_noise] = _known(scores)[..., None]
        found.append((indices, replace(scores, finished=finished)))
    if found:
        indices, first = found[0]
        failures, counts, spoilt = add_troubles([first, *(scores for _, scores in finishes)])
        found[0] = indices, replace(first, failures=failures, counts=counts, spoilt=spoilt)
    return found


def _known(scores: Scores) -> Tensor:
    """Values [K, B], NaN where missing."""
    return scores.values.masked_fill(~scores.valid, torch.nan)
