"""The rollout of an iteration: every process draws and scores its share, and knows all rewards."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import cached_property

from torch import Tensor

from likewise.config.objectives import Forward, Grpo
from likewise.config.recipe import Recipe
from likewise.rollout.finishes import AskedFinish, Finish, Finisher, add_finishes
from likewise.rollout.groups import compare_groups
from likewise.rollout.layout import Indices, micro_batches
from likewise.rollout.sampler import Sampler
from likewise.rollout.scoring import Asked, Scores, join_scores
from likewise.rollout.spoilt import AskedUsable
from likewise.rollout.steps import StepPlan
from likewise.rollout.trajectories import Roller, Tasks, Trajectory, decode, iteration_seed
from likewise.trainer.clock import Clock
from likewise.trainer.interrupts import Stop, never, unless_stopped
from likewise.trainer.plugins import Parts
from likewise.trainer.processes import Processes


class Rollouts:
    """Draws the images of iterations and has them scored.

    Args:
        drawing: A context in which the policy has the weights that draw: see `Learner.drawing`.
    """

    def __init__(
        self,
        recipe: Recipe,
        parts: Parts,
        processes: Processes,
        drawing: Callable[[], AbstractContextManager[None]],
    ) -> None:
        self.recipe, self.parts, self.processes, self.drawing = recipe, parts, processes, drawing

    @cached_property
    def sampler(self) -> Sampler:
        """How training images are drawn."""
        objective, sampler = self.recipe.objective, self.parts.sampler
        if not isinstance(objective, Forward) or objective.num_steps is None:
            return sampler
        sigmas = self.parts.policy.sigmas(objective.num_steps, self.recipe.rollout.shift)
        return replace(sampler, sigmas=sigmas)

    def draw(
        self,
        iteration: int,
        tasks: Tasks,
        plan: StepPlan,
        clock: Clock,
        stop: Stop = never,
    ) -> tuple[list[list[Trajectory]], Scores] | None:
        """Draw and score all images: this process's trajectories by update, all rewards.

        Args:
            stop: Asked before each micro-batch, and while slow rewards are waited for.

        Returns:
            None where some process has to stop.
        """
        layout = self._layout()
        indices = [index for update in layout for batch in update for index in batch]
        with clock.phase("rollout"):
            roller = self._roller(iteration, tasks, plan, indices)
        finisher = Finisher(roller, self.recipe.credit.shaping.needs_gains)
        drawn: list[list[Trajectory]] = [[] for _ in layout]
        asked: list[tuple[Indices, Asked]] = []
        finished: list[AskedFinish] = []
        for number, batch in ((n, batch) for n, update in enumerate(layout) for batch in update):
            if stop():
                break
            with clock.phase("rollout"), self.drawing():
                drawn[number].append(roller.draw(batch))
                finishes = finisher.finish(drawn[number][-1])
            with clock.phase("reward"):
                asked.append((batch, self._ask(drawn[number][-1], tasks)))
                finished += [self._ask_finish(one, tasks) for one in finishes]
        with clock.phase("reward"):  # of slow ones, what is still missing
            shares = self._answers(asked, finished, plan, stop)
        if self.processes.any(shares is None or stop()):
            return None
        with clock.phase("gather"):
            scores = join_scores(self.processes.gather(shares or []))
        return drawn, compare_groups(self.parts.rewards, scores, self.recipe.rollout.group_size)

    def first_batch(self, iteration: int, tasks: Tasks, plan: StepPlan) -> Trajectory | None:
        """This process's first micro-batch of an iteration, by itself; None where it has none."""
        batch = next((batch for update in self._layout() for batch in update), None)
        if batch is None:
            return None
        return self._roller(iteration, tasks, plan, batch).draw(batch)

    def _layout(self) -> list[list[Indices]]:
        """This process's micro-batches, by update."""
        recipe, processes = self.recipe, self.processes
        return micro_batches(recipe.rollout, recipe.optimizer, processes.count, processes.index)

    def _roller(
        self, iteration: int, tasks: Tasks, plan: StepPlan, indices: Sequence[int]
    ) -> Roller:
        objective = self.recipe.objective
        return Roller(
            self.parts.policy,
            self.sampler,
            plan,
            tasks,
            self.recipe.rollout,
            indices,
            iteration_seed(self.recipe.seed, iteration),
            keep_means=isinstance(objective, Grpo) and objective.guard,
            solver=objective.solver if isinstance(objective, Forward) else "euler",
        )

    def _decode(self, latents: Tensor) -> Tensor:
        return decode(self.parts.policy, latents, self.recipe.rollout.decode_batch)

    def _ask(self, trajectory: Trajectory, tasks: Tasks) -> Asked:
        own = [tasks[index] for index in trajectory.tasks]
        return AskedUsable(self.parts.rewards, self._decode(trajectory.latents), own)

    def _ask_finish(self, finish: Finish, tasks: Tasks) -> AskedFinish:
        own = {name: self.parts.rewards[name] for name in self.recipe.credited}
        return AskedFinish(finish, own, self._decode(finish.latents), tasks)

    def _answers(
        self,
        asked: Sequence[tuple[Indices, Asked]],
        finished: Sequence[AskedFinish],
        plan: StepPlan,
        stop: Stop,
    ) -> list[tuple[Indices, Scores]] | None:
        """What was asked, answered; None as soon as `stop` says so. Deadlines count from now."""

        def collect() -> list[tuple[Indices, Scores]]:
            since = time.monotonic()
            shares = [(batch, questions.scores(since)) for batch, questions in asked]
            if not self.recipe.credit.shaping.needs_gains:
                return shares
            beside = [(questions, questions.scores(since)) for questions in finished]
            names, steps = list(self.parts.rewards), self.recipe.rollout.num_steps
            return add_finishes(shares, beside, names, plan, steps)

        if any(one.pending for one in [*(questions for _, questions in asked), *finished]):
            return unless_stopped(collect, stop)
        return collect()
