"""The updates of an iteration: one optimiser step each, over all processes (docs/method.md §3)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from likewise.config.recipe import Recipe
from likewise.rollout.steps import StepPlan
from likewise.rollout.trajectories import Trajectory
from likewise.seeding import derive_seed
from likewise.trainer import metrics
from likewise.trainer.assignment import Assignment
from likewise.trainer.interrupts import Stop, never
from likewise.trainer.learner import Learner
from likewise.trainer.processes import Processes
from likewise.trainer.reward_gradients import RewardGradients, is_measured
from likewise.trainer.update import Update, UpdateSums


class UpdateLoop:
    """Learns from what was drawn.

    Args:
        update: Computes the gradient of one update.
        learner: Takes the steps.
    """

    def __init__(
        self, recipe: Recipe, update: Update, learner: Learner, processes: Processes
    ) -> None:
        self.recipe, self.update, self.learner = recipe, update, learner
        self.processes = processes

    def learn(
        self,
        iteration: int,
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
        for number, update in enumerate(drawn):
            apart = partial(self._apart, iteration, number, credit, plan)
            found = self._step(update, credit, terms, apart, never if number else stop)
            if found is None:
                return None
            parts += found[0]
            norms.append(found[1])
            said.append(found[2])
        self.learner.end_iteration()
        return metrics.update_numbers(parts, norms, rate) | metrics.mean_numbers(said)

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
            self.learner.sum_gradients(self.processes.add_up)
            said: metrics.Numbers = {}
            if apart is not None:
                apart.sum(self.processes.sum)
                said = self.learner.combine(apart)
            norm = self.learner.step()
            shares = self.processes.gather([own])
            forward_is_finite = all(share.is_finite for share in shares)
            if not (forward_is_finite and self.learner.overflowed(norm)):
                return shares, norm, said

    def _apart(
        self, iteration: int, number: int, credit: Assignment, plan: StepPlan
    ) -> RewardGradients | None:
        """Where update `number` of an iteration puts the gradients of single rewards, if it does.

        Conflict is measured in the first one, whose loss is linear in the advantages.
        """
        recipe, learner = self.recipe, self.learner
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
