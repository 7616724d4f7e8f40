"""Customized-GRPO (arXiv:2510.18263), one iteration after another. This file is the contents list.

Load tasks, draw a group of pictures for each, score them, assign credit, update, record.
"""

from __future__ import annotations

from likewise.rollout.steps import loop_orders, plan_steps
from likewise.trainer import metrics
from likewise.trainer.clock import Clock
from likewise.trainer.credit import assign_credit
from likewise.trainer.interrupts import Interrupts
from likewise.trainer.recorder import Recorder
from likewise.trainer.session import Session
from likewise.trainer.state import seed_everything


def train(
    session: Session, recorder: Recorder, interrupts: Interrupts, accept_changes: bool = False
) -> bool:
    """Run to the last iteration of the recipe. False if a signal ended it early.

    Finished, stopped by a signal or out of patience: what was learned is in a checkpoint.

    Args:
        accept_changes: Go on although recipe or datasets are not those of the newest checkpoint.

    Raises:
        TrainingError: the run cannot go on; see `checks`.
        ValueError: recipe or datasets have changed, and that is not accepted.
    """
    recipe, processes = session.recipe, session.processes
    changes = session.restore(accept_changes)
    recorder.resumed(session.iteration, changes)
    if session.iteration == 0 and session.evaluates:
        seed_everything(recipe.seed, 0, processes.index)
        recorder.base(session.evaluate(0))

    for iteration in range(session.iteration + 1, recipe.run.iterations + 1):
        clock = Clock(processes.device)
        seed_everything(recipe.seed, iteration, processes.index)
        tasks = session.tasks(iteration)
        plan = plan_steps(recipe.rollout, recipe.seed, iteration - 1)
        drawn, scores = session.roll_out(iteration, tasks, plan, clock)

        rows = len(tasks) * recipe.rollout.group_size
        orders = loop_orders(recipe.rollout, plan, rows, recipe.seed, iteration)
        credit = assign_credit(scores.values, scores.valid, recipe, orders)
        session.check_ratio(drawn)
        if processes.any(interrupts.received > 0):
            break  # nothing was learned yet: the iteration is dropped, and drawn again on resume
        with clock.phase("update"):
            update = session.learn(drawn, credit, plan)

        last = iteration == recipe.run.iterations
        looks = {}
        if session.evaluates and (last or iteration % recipe.run.evaluation.every == 0):
            with clock.phase("evaluation"):
                looks = session.evaluate(iteration)
        recorder.iteration(iteration, tasks, scores, credit, plan, {**update, **looks}, clock)
        session.iteration = iteration
        stop = processes.any(interrupts.received > 0)
        hopeless = session.patience.ends(metrics.taught(update))
        if looks or stop or hopeless or last or iteration % recipe.run.checkpoints.every == 0:
            session.save(iteration, session.gain(looks))
        if hopeless:
            raise session.patience.error(scores.problems, scores.silent(list(recipe.rewards)))
        if stop:
            break
    else:
        return True
    session.save_if_missing()
    return session.iteration == recipe.run.iterations
