"""The parts of a run, put together; each method is one line of `loop`."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from likewise.config.recipe import Recipe
from likewise.protocols import AnyReward, Policy, Reward, TaskStream
from likewise.records.checkpoints import CheckpointStore
from likewise.records.run_directory import RunDirectory
from likewise.rollout.groups import compare_groups
from likewise.rollout.layout import micro_batches
from likewise.rollout.sampler import Sampler
from likewise.rollout.scoring import (
    Asked,
    Scores,
    beside_judges,
    join_scores,
    single_rewards,
)
from likewise.rollout.spoilt import AskedUsable
from likewise.rollout.steps import StepPlan
from likewise.rollout.trajectories import Roller, Trajectory, iteration_seed
from likewise.trainer import metrics, origin, state
from likewise.trainer.checks import Patience, check_ratio
from likewise.trainer.clock import Clock
from likewise.trainer.credit import Assignment
from likewise.trainer.evaluation import evaluate, gain, grid
from likewise.trainer.learner import Learner
from likewise.trainer.processes import Processes
from likewise.trainer.trackers import log_grid
from likewise.trainer.update import Replay, UpdateSums, sum_gradients
from likewise.types import Task


@dataclass(frozen=True)
class Parts:
    """What `build` puts together from a recipe: plug-ins, known by protocol only.

    Attributes:
        policy: With its adapter, on its device.
        sampler: Its schedule and transition.
        rewards: By name, in the recipe's order.
        stream: Training tasks.
        evaluation_tasks: The fixed set; may be empty.
        judges: Scorers that training never sees, by name.
        fingerprints: Of the datasets, by dotted name in the recipe.
    """

    policy: Policy
    sampler: Sampler
    rewards: Mapping[str, AnyReward]
    stream: TaskStream
    evaluation_tasks: Sequence[Task]
    judges: Mapping[str, Reward]
    fingerprints: Mapping[str, str] = field(default_factory=dict)


class Session:
    """A run in progress.

    Attributes:
        iteration: The last one that is finished; 0 before the first.
    """

    def __init__(
        self, recipe: Recipe, run: RunDirectory, parts: Parts, processes: Processes
    ) -> None:
        self.recipe, self.run, self.parts, self.processes = recipe, run, parts, processes
        self.sampler = parts.sampler
        updates = recipe.run.iterations * recipe.optimizer.updates_per_iteration
        parameters = parts.policy.trainable_parameters()
        processes.same_start(parameters)
        half = recipe.policy.dtype == "float16"
        self.learner = Learner(parameters, recipe.optimizer, updates, half)
        self.replay = Replay(parts.policy, self.sampler, recipe.objective, self.learner.scaled)
        self.store = CheckpointStore(run.checkpoints, recipe.run.checkpoints.keep)
        self.patience = Patience(recipe.run.patience)
        self.iteration = 0
        self.ratio_checked = False

    def restore(self, accept_changes: bool = False) -> origin.Changes:
        """Go on from the newest intact checkpoint, if there is one; forget what came after it.

        Args:
            accept_changes: Go on although recipe or datasets have changed since.

        Returns:
            Those changes.

        Raises:
            ValueError: there are some, and they are not accepted.
        """
        checkpoint, changes = self.store.newest(), origin.Changes()
        if checkpoint is not None:
            changes = origin.changes_since(checkpoint.folder, self.recipe, self.parts.fingerprints)
            if not accept_changes:
                origin.refuse(changes, checkpoint.iteration)
            state.read_state(checkpoint.folder, self.parts.policy, self.learner)
            self.iteration = checkpoint.iteration
        self.processes.wait()  # until all have read, before the main process tidies up
        if self.processes.is_main:
            self.run.forget_after(self.iteration if checkpoint is not None else -1)
        self.processes.wait()
        return changes

    @property
    def evaluates(self) -> bool:
        return self.recipe.run.evaluation.every > 0 and bool(self.parts.evaluation_tasks)

    def tasks(self, iteration: int) -> list[Task]:
        """The tasks of iteration 1, 2, …; every one takes the next of the stream."""
        count = self.recipe.rollout.tasks
        return [
            self.parts.stream(index) for index in range((iteration - 1) * count, iteration * count)
        ]

    def roll_out(
        self, iteration: int, tasks: Sequence[Task], plan: StepPlan, clock: Clock
    ) -> tuple[list[list[Trajectory]], Scores]:
        """Draw and score all pictures: this process's trajectories by update, all rewards."""
        settings, processes = self.recipe.rollout, self.processes
        layout = micro_batches(
            len(tasks) * settings.group_size,
            self.recipe.optimizer.updates_per_iteration,
            processes.count,
            processes.index,
            settings.micro_batch,
        )
        rows = [row for update in layout for batch in update for row in batch]
        with clock.phase("rollout"):
            roller = Roller(
                self.parts.policy,
                self.sampler,
                plan,
                tasks,
                settings.group_size,
                rows,
                settings.micro_batch,
                iteration_seed(self.recipe.seed, iteration),
                settings.shared_noise,
                keep_means=self.recipe.objective.guard,
            )
        drawn: list[list[Trajectory]] = []
        asked: list[tuple[tuple[int, ...], Asked]] = []
        for update in layout:
            drawn.append([])
            for batch in update:
                with clock.phase("rollout"):
                    trajectory = roller.draw(batch)
                with clock.phase("reward"):
                    asked.append((batch, self._ask(trajectory, tasks)))
                drawn[-1].append(trajectory)
        with clock.phase("reward"):  # of slow ones, what is still missing
            since = time.monotonic()
            shares = [(batch, questions.scores(since)) for batch, questions in asked]
        with clock.phase("gather"):
            scores = join_scores(processes.gather(shares))
        return drawn, compare_groups(self.parts.rewards, scores, settings.group_size)

    def check_ratio(self, drawn: Sequence[Sequence[Trajectory]]) -> None:
        """Once per sitting: a replay must give exactly what the rollout stored."""
        if self.ratio_checked:
            return
        first = next((trajectory for update in drawn for trajectory in update), None)
        own = 0.0 if first is None else self.replay.ratio_deviation(first)
        check_ratio(max(self.processes.gather([own])), self.recipe.objective.ratio_tolerance)
        self.ratio_checked = True

    def learn(
        self, drawn: Sequence[Sequence[Trajectory]], credit: Assignment, plan: StepPlan
    ) -> metrics.Numbers:
        """One optimiser step per update."""
        rows = len(credit.complete) // len(drawn)
        parts: list[UpdateSums] = []
        norms: list[float] = []
        rate = self.learner.learning_rate
        for update in drawn:
            own = self.replay.gradient(update, credit.advantages, rows * len(plan.trained))
            sum_gradients(self.learner.parameters, self.processes.sum)
            norms.append(self.learner.step())
            parts += self.processes.gather([own])
        return metrics.update_numbers(parts, norms, rate)

    def evaluate(self, iteration: int) -> metrics.Numbers:
        """Numbers of the fixed set of tasks; the main process also draws the sample grid."""
        tasks, parts = self.parts.evaluation_tasks, self.parts
        with self.learner.averaged():
            numbers, pictures = evaluate(
                parts.policy,
                self.sampler,
                beside_judges(parts.rewards, parts.judges),
                tasks,
                self.recipe.rollout.micro_batch,
                self.processes,
            )
        if self.processes.is_main:
            shown = self.recipe.run.evaluation.grid
            sheet = grid(tasks[:shown], pictures[:shown])
            sheet.save(self.run.sample_path(iteration))
            log_grid(self.processes.accelerator.trackers, sheet, iteration)
        return numbers

    def save(self, iteration: int, score: float | None = None) -> None:
        """A checkpoint of what was learned up to this iteration."""
        if self.processes.is_main:
            self._write_checkpoint(iteration, score)
        self.processes.wait()

    def save_if_missing(self) -> None:
        """After an interrupt: make sure that the last finished iteration is in a checkpoint."""
        if self.processes.is_main and self.iteration:
            newest = self.store.newest()
            if newest is None or newest.iteration != self.iteration:
                self._write_checkpoint(self.iteration, None)
        self.processes.wait()

    def gain(self, numbers: metrics.Numbers) -> float | None:
        """By how much the rewards of the evaluation set rose since the run began."""
        names = [
            name for name in single_rewards(self.parts.rewards) if name in self.recipe.credited
        ]
        return gain(names, self.base, numbers)

    @cached_property
    def base(self) -> Mapping[str, float | None]:
        """Numbers of the evaluation before training."""
        rows = self.run.read_metrics()
        return rows[0] if rows and rows[0]["iteration"] == 0 else {}

    def _write_checkpoint(self, iteration: int, score: float | None) -> None:
        def write(folder: Path) -> None:
            state.write_state(folder, self.parts.policy, self.learner)
            origin.write_origin(folder, self.recipe, self.parts.fingerprints)

        self.store.save(iteration, write, score)

    def _ask(self, trajectory: Trajectory, tasks: Sequence[Task]) -> Asked:
        own = [tasks[row // self.recipe.rollout.group_size] for row in trajectory.rows]
        return AskedUsable(self.parts.rewards, self.parts.policy.decode(trajectory.latents), own)
