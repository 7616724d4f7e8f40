"""The parts of a run, put together; each method is one line of `loop`."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path

from likewise.config.adapters import Lora
from likewise.config.objectives import Average, Forward, Grpo
from likewise.config.recipe import Recipe
from likewise.protocols import AnyReward, Policy, Reward, TaskStream
from likewise.records.atomic import write_atomically
from likewise.records.checkpoints import CheckpointStore
from likewise.records.run_directory import RunDirectory
from likewise.rollout.finishes import AskedFinish, Finish, Finisher, add_finishes
from likewise.rollout.groups import compare_groups
from likewise.rollout.layout import Indices, micro_batches
from likewise.rollout.sampler import Sampler
from likewise.rollout.scoring import (
    Asked,
    Scores,
    beside_evaluators,
    join_scores,
    single_rewards,
)
from likewise.rollout.spoilt import AskedUsable
from likewise.rollout.steps import StepPlan, plan_steps
from likewise.rollout.trajectories import Roller, Trajectory, iteration_seed
from likewise.seeding import derive_seed
from likewise.trainer import metrics, origin, state
from likewise.trainer.assignment import Assignment
from likewise.trainer.checks import Patience, check_ratio, not_finite
from likewise.trainer.clock import Clock
from likewise.trainer.evaluation import evaluate, gain, grid
from likewise.trainer.floors import Floors
from likewise.trainer.interrupts import Stop, never, unless_stopped
from likewise.trainer.learner import Learner
from likewise.trainer.processes import Processes
from likewise.trainer.reward_gradients import RewardGradients, is_measured
from likewise.trainer.terms import Trained
from likewise.trainer.timing import Timing
from likewise.trainer.trackers import log_grid
from likewise.trainer.update import Update, UpdateSums, sum_gradients
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
        objective = recipe.objective
        old = None
        if isinstance(objective, Forward):  # else the old policy is the new one in every update
            several = recipe.optimizer.updates_per_iteration > 1
            old = objective.old if several or isinstance(objective.old, Average) else None
        self.learner = Learner(parameters, recipe.optimizer, updates, half, old)
        has_reference = isinstance(recipe.adapter, Lora) or objective.needs_reference
        trained = Trained(parts.policy, self.sampler, objective, self.learner.old, has_reference)
        self.update = Update(trained, self.learner.scaled, processes.gather)
        self.store = CheckpointStore(run.checkpoints, recipe.run.checkpoints.keep)
        self.patience = Patience(recipe.run.patience)
        self.floors, self.timing = Floors(recipe), Timing(recipe)
        self.iteration = 0
        self._tasks: tuple[int, list[Task]] = 0, []

    def restore(self, accept_changes: bool = False) -> origin.Changes:
        """Go on from the newest intact checkpoint, if there is one; forget what came after it.

        Args:
            accept_changes: Go on although recipe or datasets have changed since.

        Returns:
            Those changes.

        Raises:
            ValueError: there are some, and they are not accepted; or the checkpoint lacks floors
                or shares that its rules need (see `floors`, `timing`).
        """
        checkpoint, changes = self.store.newest(), origin.Changes()
        if checkpoint is not None:
            changes = origin.changes_since(checkpoint.folder, self.recipe, self.parts.fingerprints)
            if not accept_changes:
                origin.refuse(changes, checkpoint.iteration)
            self.floors.read(checkpoint.folder)
            self.timing.read(checkpoint.folder)
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

    def evaluates_after(self, iteration: int) -> bool:
        """Whether the evaluation set is drawn once this iteration is finished."""
        run = self.recipe.run
        return self.evaluates and (
            iteration == run.iterations or iteration % run.evaluation.every == 0
        )

    @property
    def owes_evaluation(self) -> bool:
        """Whether the evaluation after the last finished iteration is missing; a collective call.

        That of iteration 0 makes its own row; all others belong into a row that is there.
        """
        if not self.evaluates_after(self.iteration):
            return False
        rows = [row for row in self.run.read_metrics() if row["iteration"] == self.iteration]
        done = any(key.startswith("eval/") for row in rows for key in row)
        owed = not done and (bool(rows) or self.iteration == 0)
        return self.processes.any(self.processes.is_main and owed)

    def tasks(self, iteration: int) -> list[Task]:
        """The tasks of iteration 1, 2, …; every one takes the next of the stream.

        Those of the last iteration that was asked for are kept: the first one is, twice.
        """
        if self._tasks[0] != iteration:
            count = self.recipe.rollout.tasks
            first = (iteration - 1) * count
            self._tasks = iteration, [self.parts.stream(first + i) for i in range(count)]
        return self._tasks[1]

    def check_ratio(self) -> None:
        """Once per launch, before anything counts: one micro-batch, drawn and replayed.

        Raises:
            TrainingError: the replay does not give exactly what was drawn; see `checks`.
        """
        iteration, objective = self.iteration + 1, self.recipe.objective
        if iteration > self.recipe.run.iterations or not isinstance(objective, Grpo):
            return
        batch = next((batch for update in self._layout() for batch in update), None)
        own = 0.0
        if batch is not None:
            plan = self.plan(iteration)
            roller = self._roller(iteration, self.tasks(iteration), plan, batch)
            own = self.update.ratio_deviation(roller.draw(batch))
        check_ratio(max(self.processes.gather([own])), objective.ratio_tolerance)

    def plan(self, iteration: int) -> StepPlan:
        """Steps of iteration 1, 2, …; on finished images all levels of the schedule are trained."""
        settings = self.recipe.rollout
        if self.recipe.objective.forward:
            return StepPlan((), tuple(range(settings.num_steps)))
        return plan_steps(settings, self.recipe.seed, iteration - 1)

    def roll_out(
        self,
        iteration: int,
        tasks: Sequence[Task],
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
            with clock.phase("rollout"), self.learner.drawing():
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

    def learn(
        self,
        drawn: Sequence[Sequence[Trajectory]],
        credit: Assignment,
        plan: StepPlan,
        stop: Stop = never,
    ) -> metrics.Numbers | None:
        """One optimiser step per update.

        Args:
            stop: Asked before each micro-batch of the first update. Once that one's step is taken,
                the others follow: a checkpoint holds whole iterations.

        Returns:
            None where some process has to stop; nothing has changed then.
        """
        samples = len(credit.complete) // len(drawn)
        terms = samples * self.update.terms_per_sample(len(plan.trained))
        parts: list[UpdateSums] = []
        norms: list[float] = []
        said: list[metrics.Numbers] = []
        rate = self.learner.learning_rate
        for update in drawn:
            apart = partial(self._apart, credit, plan, len(norms))
            found = self._step(update, credit, terms, apart, never if norms else stop)
            if found is None:
                return None
            parts += found[0]
            norms.append(found[1])
            said.append(found[2])
        self.learner.end_iteration()
        return metrics.update_numbers(parts, norms, rate) | metrics.mean_numbers(said)

    def check_finite(self, iteration: int) -> None:
        """Nothing that is not finite is saved, or learned from.

        Raises:
            TrainingError: what was learned in `iteration` is not finite.
        """
        if not self.learner.is_finite():
            newest = self.store.newest()
            raise not_finite(iteration, 0 if newest is None else newest.iteration)

    def evaluate(self, iteration: int, stop: Stop = never) -> metrics.Numbers | None:
        """Numbers of the fixed set of tasks; the main process also draws the sample grid.

        None where some process has to stop.
        """
        tasks, parts = self.parts.evaluation_tasks, self.parts
        state.seed_everything(self.recipe.seed, iteration, self.processes.index)
        with self.learner.averaged():
            found = evaluate(
                parts.policy,
                self.sampler,
                beside_evaluators(parts.rewards, parts.evaluators),
                tasks,
                self.recipe.rollout.micro_batch,
                self.processes,
                stop,
            )
        if found is None:
            return None
        numbers, images = found
        if self.processes.is_main:
            shown = self.recipe.run.evaluation.grid
            sheet = grid(tasks[:shown], images[:shown])
            png = io.BytesIO()
            sheet.save(png, "png")
            write_atomically(self.run.sample_path(iteration), png.getvalue())
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
    def drawing(self) -> Sampler:
        """How training images are drawn."""
        objective, sampler = self.recipe.objective, self.sampler
        if not isinstance(objective, Forward) or objective.num_steps is None:
            return sampler
        sigmas = self.parts.policy.sigmas(objective.num_steps, self.recipe.rollout.shift)
        return replace(sampler, sigmas=sigmas)

    @cached_property
    def base(self) -> Mapping[str, float | None]:
        """Numbers of the evaluation before training."""
        rows = self.run.read_metrics()
        return rows[0] if rows and rows[0]["iteration"] == 0 else {}

    def _write_checkpoint(self, iteration: int, score: float | None) -> None:
        def write(folder: Path) -> None:
            state.write_state(folder, self.parts.policy, self.learner)
            origin.write_origin(folder, self.recipe, self.parts.fingerprints)
            self.floors.write(folder)
            self.timing.write(folder)

        self.store.save(iteration, write, score)

    def _layout(self) -> list[list[Indices]]:
        """This process's micro-batches, by update."""
        recipe, processes = self.recipe, self.processes
        return micro_batches(recipe.rollout, recipe.optimizer, processes.count, processes.index)

    def _roller(
        self, iteration: int, tasks: Sequence[Task], plan: StepPlan, indices: Sequence[int]
    ) -> Roller:
        objective = self.recipe.objective
        return Roller(
            self.parts.policy,
            self.drawing,
            plan,
            tasks,
            self.recipe.rollout,
            indices,
            iteration_seed(self.recipe.seed, iteration),
            keep_means=isinstance(objective, Grpo) and objective.guard,
            solver=objective.solver if isinstance(objective, Forward) else "euler",
        )

    def _apart(self, credit: Assignment, plan: StepPlan, number: int) -> RewardGradients | None:
        """Where update `number` of an iteration puts the gradients of single rewards, if it does.

        Conflict is measured in the first one, whose loss is linear in the advantages.
        """
        recipe, learner, iteration = self.recipe, self.learner, self.iteration + 1
        settings = recipe.optimizer.gradients
        measures = number == 0 and is_measured(settings.measure_every, iteration)
        if not settings.combines and not measures:
            return None
        own = [k for k, name in enumerate(recipe.rewards) if name in recipe.credited]
        return RewardGradients(
            learner.parameters,
            {name: reward.side for name, reward in recipe.credited.items()},
            credit.parts[own],
            learner.scaled,
            plan.trained if measures else None,
            derive_seed("gradients", recipe.seed, iteration, number),
        )

    def _step(
        self,
        update: Sequence[Trajectory],
        credit: Assignment,
        terms: int,
        gradients: Callable[[], RewardGradients | None],
        stop: Stop,
    ) -> tuple[list[UpdateSums], float, metrics.Numbers] | None:
        """Sums of all processes, the gradient's norm, and what the gradients of single rewards say.

        None, with nothing changed, if stopped.

        A float16 gradient that overflows is computed again at a lower loss scale: that costs an
        update, and dropping it would cost a rollout.
        """
        while True:
            apart = gradients()
            own = self.update.gradient(update, credit.advantages, terms, stop, apart)
            if self.processes.any(stop()):
                self.learner.forget_gradients()
                return None
            sum_gradients(self.learner.parameters, self.processes.sum)
            said: metrics.Numbers = {}
            if apart is not None:
                apart.sum(self.processes.sum)
                said = self.learner.combine(apart)
            norm = self.learner.step()
            shares = self.processes.gather([own])
            forward_is_finite = all(share.is_finite for share in shares)
            if not (forward_is_finite and self.learner.overflowed(norm)):
                return shares, norm, said

    def _ask(self, trajectory: Trajectory, tasks: Sequence[Task]) -> Asked:
        own = [tasks[index] for index in trajectory.tasks]
        return AskedUsable(self.parts.rewards, self.parts.policy.decode(trajectory.latents), own)

    def _ask_finish(self, finish: Finish, tasks: Sequence[Task]) -> AskedFinish:
        own = {name: self.parts.rewards[name] for name in self.recipe.credited}
        return AskedFinish(finish, own, self.parts.policy.decode(finish.latents), tasks)

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
