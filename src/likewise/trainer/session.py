"""The parts of a run in progress, put together; `loop` goes through them."""

from __future__ import annotations

from collections.abc import Mapping

from likewise.config.adapters import Lora
from likewise.config.data import Stickers
from likewise.config.objectives import Average, Forward, Grpo
from likewise.config.recipe import Recipe
from likewise.records.run_directory import RunDirectory
from likewise.rollout.layout import own_tasks
from likewise.rollout.steps import StepPlan, plan_steps
from likewise.sharding.shards import shards_of
from likewise.trainer.checks import Patience, check_ratio
from likewise.trainer.evaluation_set import EvaluationSet
from likewise.trainer.facts import Facts
from likewise.trainer.floors import Floors
from likewise.trainer.learner import Learner
from likewise.trainer.origin import Changes
from likewise.trainer.plugins import Parts
from likewise.trainer.processes import Processes
from likewise.trainer.rollouts import Rollouts
from likewise.trainer.saving import Checkpoints
from likewise.trainer.terms import Trained
from likewise.trainer.timing import Timing
from likewise.trainer.update import Update
from likewise.trainer.update_loop import UpdateLoop
from likewise.types import Task


class Session:
    """A run in progress.

    Attributes:
        iteration: The last one that is finished; 0 before the first.
        rollouts, updates, evaluation, checkpoints: What an iteration does, one after the other.
        floors, timing: What the credit rule measures as the run goes on.
        patience: When to give up.
    """

    def __init__(
        self, recipe: Recipe, run: RunDirectory, parts: Parts, processes: Processes
    ) -> None:
        self.recipe, self.parts, self.processes = recipe, parts, processes
        shards = shards_of(parts.policy)
        processes.share(shards)
        if shards is None:  # else all have read the same files, and drawn the same LoRA
            processes.same_start(parts.policy.trainable_parameters())
        self.learner = _learner(recipe, parts)
        trained = _trained(recipe, parts, self.learner)
        self.update = Update(trained, self.learner.scaled, processes.gather)
        self.floors, self.timing = Floors(recipe), Timing(recipe)
        self.patience = Patience(recipe.run.patience)
        self.rollouts = Rollouts(recipe, parts, processes, self.learner.drawing)
        self.updates = UpdateLoop(recipe, self.update, self.learner, processes)
        self.evaluation = EvaluationSet(recipe, run, parts, self.learner, processes)
        kept = self.floors, self.timing
        self.checkpoints = Checkpoints(recipe, run, parts, self.learner, processes, kept)
        self.iteration = 0
        share = recipe.rollout, recipe.optimizer, processes.count, processes.index
        self._own, self._tasks = own_tasks(*share), (0, dict[int, Task]())

    def restore(self, accept_changes: bool = False) -> Changes:
        """See `Checkpoints.restore`."""
        self.iteration, changes = self.checkpoints.restore(accept_changes)
        return changes

    def tasks(self, iteration: int) -> dict[int, Task]:
        """This process's tasks of iteration 1, 2, …, by number; all take the next of the stream.

        Those of the last iteration that was asked for are kept: the first one is, twice.
        """
        if self._tasks[0] != iteration:
            first = (iteration - 1) * self.recipe.rollout.tasks
            self._tasks = iteration, {i: self.parts.stream(first + i) for i in self._own}
        return self._tasks[1]

    def facts(self, tasks: Mapping[int, Task]) -> list[Facts]:
        """What is recorded of all tasks of an iteration, from those of each process."""
        photos = not isinstance(self.recipe.data, Stickers)  # whose bench is never trained on
        own = [(number, Facts.of(task, photos)) for number, task in tasks.items()]
        found = dict(self.processes.gather(own))
        return [found[number] for number in sorted(found)]

    def plan(self, iteration: int) -> StepPlan:
        """Steps of iteration 1, 2, …; on finished images all levels of the schedule are trained."""
        settings = self.recipe.rollout
        if self.recipe.objective.forward:
            return StepPlan((), tuple(range(settings.num_steps)))
        return plan_steps(settings, self.recipe.seed, iteration - 1)

    def check_ratio(self) -> None:
        """Once per launch, before anything counts: one micro-batch, drawn and replayed.

        Raises:
            TrainingError: the replay does not give exactly what was drawn; see `checks`.
        """
        iteration, objective = self.iteration + 1, self.recipe.objective
        if iteration > self.recipe.run.iterations or not isinstance(objective, Grpo):
            return
        tasks, plan = self.tasks(iteration), self.plan(iteration)
        batch = self.rollouts.first_batch(iteration, tasks, plan)
        own = 0.0 if batch is None else self.update.ratio_deviation(batch)
        check_ratio(max(self.processes.gather([own])), objective.ratio_tolerance)


def _learner(recipe: Recipe, parts: Parts) -> Learner:
    """Around the policy's parameters, with old weights where the objective compares with them."""
    updates, objective, old = recipe.optimizer.updates_per_iteration, recipe.objective, None
    # In the only update of an iteration the old policy is the new one, unless it is an average.
    if isinstance(objective, Forward) and (updates > 1 or isinstance(objective.old, Average)):
        old = objective.old
    shards, half = shards_of(parts.policy), recipe.policy.dtype == "float16"
    parameters = parts.policy.trainable_parameters() if shards is None else shards.plain
    total = recipe.run.iterations * updates
    return Learner(parameters, recipe.optimizer, total, half, old, shards)


def _trained(recipe: Recipe, parts: Parts, learner: Learner) -> Trained:
    has_reference = isinstance(recipe.adapter, Lora) or recipe.objective.needs_reference
    return Trained(parts.policy, parts.sampler, recipe.objective, learner.old, has_reference)
