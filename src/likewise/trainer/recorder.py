"""What is written down of every iteration: metrics, timings, reward table, trackers, progress."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from likewise.config.recipe import Recipe
from likewise.records.run_directory import RunDirectory
from likewise.rollout.scoring import Scores
from likewise.rollout.steps import StepPlan
from likewise.trainer import metrics
from likewise.trainer.assignment import Assignment
from likewise.trainer.clock import Clock
from likewise.trainer.facts import Facts
from likewise.trainer.origin import Changes
from likewise.trainer.processes import Processes
from likewise.trainer.progress import Progress


class Recorder:
    """Writes on the main process, and is silent on all others."""

    def __init__(
        self, recipe: Recipe, run: RunDirectory, processes: Processes, progress: Progress
    ) -> None:
        self.recipe, self.run, self.processes, self.progress = recipe, run, processes, progress
        self.silent: set[str] = set()  # rewards that this process has warned of
        progress.take_warnings()  # of what all processes have loaded

    def resumed(self, iteration: int, changes: Changes) -> None:
        """Say what is not as a resumed run left it after `iteration`."""
        if not self.processes.is_main or not iteration:
            return
        for change in (*changes.learning, *changes.machine):
            self.progress.warn(f"goes on after iteration {iteration} although {change}")
        if changes.machine:
            self.progress.warn("numbers may differ in their last bits from an undisturbed run's")
        for gap in self.run.gaps(iteration):
            self.progress.warn(f"{gap}, which this run has finished: they were lost or removed")

    def base(self, numbers: metrics.Numbers) -> None:
        """The evaluation before training, as iteration 0."""
        self._write(0, numbers, {})

    def late_evaluation(self, iteration: int, numbers: metrics.Numbers) -> None:
        """The evaluation of an iteration that has a row already, since a signal had put it off."""
        if self.processes.is_main:
            self.run.extend_metrics(iteration, numbers)
            self._show(iteration, numbers, {})

    def iteration(
        self,
        iteration: int,
        tasks: Sequence[Facts],
        scores: Scores,
        credit: Assignment,
        plan: StepPlan,
        numbers: metrics.Numbers,
        clock: Clock,
    ) -> None:
        """All numbers of a finished iteration; the table of its rewards too. All processes call."""
        self.pass_on_warnings()
        if not self.processes.is_main:
            return
        rewards, settings = self.recipe.rewards, self.recipe.rollout
        names = list(rewards)
        sides = {name: reward.side for name, reward in rewards.items()}
        floor = self.recipe.credit.std_floor
        row = {
            **metrics.reward_numbers(
                names, scores.values, scores.valid, settings.group_size, floor
            ),
            **metrics.count_numbers(scores.counts),
            **{f"images/{reason}": float(count) for reason, count in scores.spoilt.items()},
            **metrics.conflict_numbers(sides, credit),
            **metrics.credit_numbers(names, credit, plan.trained),
            **metrics.gain_numbers(names, credit, plan.trained),
            **numbers,
        }
        self.run.write_rewards(iteration, self._table(tasks, scores, credit, plan))
        self._write(iteration, row, clock.row())
        norm = numbers["update/grad_norm"]
        if norm is not None and not math.isfinite(norm):
            self.progress.warn(f"iteration {iteration} was skipped: its gradient is not finite")
        for reason, count in scores.spoilt.items():
            what = f"{count} images of iteration {iteration} are {reason.replace('_', ' ')}"
            self.progress.warn(f"{what}: no reward was asked about them")
        for name, reason in scores.failures.items():
            self.progress.warn(f"reward {name!r} failed in iteration {iteration}: {reason}")
        for name in set(scores.silent(names)) - self.silent:
            self.silent.add(name)
            self.progress.warn(
                f"reward {name!r} is missing for every image of iteration {iteration}"
            )

    def pass_on_warnings(self) -> None:
        """Say what other processes have to say, such as which rows they could not open."""
        own = self.progress.take_warnings()
        others = self.processes.gather_on_main([] if self.processes.is_main else own)
        for message in dict.fromkeys(others):
            if message not in own:
                self.progress.warn(message)

    def _write(self, iteration: int, row: metrics.Numbers, timings: Mapping[str, float]) -> None:
        if not self.processes.is_main:
            return
        self.run.append_metrics({"iteration": iteration, **row})
        if timings:
            self.run.append_timings({"iteration": iteration, **timings})
        self._show(iteration, row, timings)

    def _show(self, iteration: int, row: metrics.Numbers, timings: Mapping[str, float]) -> None:
        known = {key: value for key, value in {**row, **timings}.items() if value is not None}
        self.processes.accelerator.log(known, step=iteration)
        self.progress.show(iteration, row, timings)

    def _table(
        self, tasks: Sequence[Facts], scores: Scores, credit: Assignment, plan: StepPlan
    ) -> dict[str, list[Any]]:
        """One row per sample; a missing reward is null."""
        size = self.recipe.rollout.group_size
        owners = [task for task in tasks for _ in range(size)]
        columns: dict[str, list[Any]] = {
            "task": [task.id for task in owners],
            "sample": [number for _ in tasks for number in range(size)],
            "prompt": [task.prompt for task in owners],
            "subject": [task.subject for task in owners],
            "kind": [task.kind for task in owners],
            "complexity": [task.complexity for task in owners],
        }
        if all(task.photos is not None for task in tasks):
            columns["photos"] = [list(task.photos or ()) for task in owners]
        for k, name in enumerate(self.recipe.rewards):
            pairs = zip(scores.values[k].tolist(), scores.valid[k].tolist(), strict=True)
            columns[f"reward/{name}"] = [value if known else None for value, known in pairs]
            columns[f"z/{name}"] = credit.z[k].tolist()
        columns["complete"] = credit.complete.tolist()
        columns["combined" if credit.stands_alone else "shaping"] = credit.shaped.tolist()
        if credit.floors is not None:
            columns["floor"] = credit.floors.tolist()
        columns |= self._gains(credit, plan)
        for t in plan.trained:
            columns[f"advantage/step_{t:02d}"] = credit.advantages[:, t].tolist()
        return columns

    def _gains(self, credit: Assignment, plan: StepPlan) -> dict[str, list[Any]]:
        """Of rewards that are credited; a gain that is missing is null."""
        columns: dict[str, list[Any]] = {}
        if credit.gains is None or credit.step_z is None:
            return columns
        for k, name in enumerate(self.recipe.rewards):
            for i, t in enumerate(plan.trained if name in self.recipe.credited else ()):
                own = credit.gains[k, :, i].tolist()
                columns[f"gain/{name}/step_{t:02d}"] = [None if math.isnan(g) else g for g in own]
                columns[f"z/{name}/step_{t:02d}"] = credit.step_z[k, :, i].tolist()
        return columns
