"""Customized-GRPO (arXiv:2510.18263), one iteration after another. This file is the contents list.

Load tasks, draw a group of images for each, score them, assign credit, update, record.
"""

from __future__ import annotations

from likewise.trainer.assignment import assign_credit
from likewise.trainer.clock import Clock
from likewise.trainer.interrupts import Interrupts, Stop, never
from likewise.trainer.metrics import Numbers, made_progress
from likewise.trainer.recorder import Recorder
from likewise.trainer.session import Session
from likewise.trainer.state import seed_everything


def train(
    session: Session, recorder: Recorder, interrupts: Interrupts, accept_changes: bool = False
) -> bool:
    """Run to the last iteration of the recipe. False if a signal ended it early.

    Finished, stopped by a signal or out of patience: what was learned is in a checkpoint. A signal
    drops the rollout that is under way, as weights have not changed since the last iteration.

    Args:
        accept_changes: Go on although recipe or datasets are not those of the newest checkpoint.

    Raises:
        TrainingError: the run cannot go on; see `checks`.
        ValueError: recipe or datasets have changed, and that is not accepted.
    """
    recipe, processes, stop = session.recipe, session.processes, interrupts.requested
    changes = session.restore(accept_changes)
    recorder.resumed(session.iteration, changes)
    session.check_ratio()
    if not _evaluate_start(session, recorder, stop):
        return False

    for iteration in range(session.iteration + 1, recipe.run.iterations + 1):
        clock = Clock(processes.device)
        seed_everything(recipe.seed, iteration, processes.index)
        tasks = session.tasks(iteration)
        plan = session.plan(iteration)
        rollout = session.rollouts.draw(iteration, tasks, plan, clock, stop)
        if rollout is None:
            break  # dropped, and drawn again on resume
        drawn, scores = rollout

        facts = session.facts(tasks)
        floors = session.floors.of(iteration, facts, scores)
        credit = assign_credit(
            *(scores.values, scores.valid, recipe, plan, iteration, floors, scores.finished),
            time_weights=session.timing.rule,
        )
        session.timing.add(iteration, plan, scores)
        with clock.phase("update"):
            update = session.updates.learn(iteration, drawn, credit, plan, stop)
        if update is None:
            break  # before the first optimiser step: as above
        session.checkpoints.check_finite(iteration)

        evaluation = _evaluate(session, iteration, clock, stop)
        recorder.iteration(iteration, facts, scores, credit, plan, {**update, **evaluation}, clock)
        session.iteration = iteration
        stopped = processes.any(stop())
        stalled = session.patience.should_stop(made_progress(update))
        if session.checkpoints.should_save(iteration) or evaluation or stopped or stalled:
            session.checkpoints.save(iteration, session.evaluation.gain(evaluation))
        if stalled:
            raise session.patience.error(scores.problems, scores.silent(list(recipe.rewards)))
        if stopped:
            break
    else:
        return True
    session.checkpoints.save_if_missing(session.iteration)
    return session.iteration == recipe.run.iterations


def _evaluate(session: Session, iteration: int, clock: Clock, stop: Stop) -> Numbers:
    """The evaluation after an iteration, where it is due; a signal puts it off until resumed.

    Not the last one: nothing comes after it.
    """
    if not session.evaluation.should_evaluate(iteration):
        return {}
    last = iteration == session.recipe.run.iterations
    with clock.phase("evaluation"):
        return session.evaluation.evaluate(iteration, never if last else stop) or {}


def _evaluate_start(session: Session, recorder: Recorder, stop: Stop) -> bool:
    """The evaluation before training, or the one that a signal had put off; False if stopped."""
    iteration = session.iteration
    if not session.evaluation.is_missing(iteration):
        return True
    evaluation = session.evaluation.evaluate(iteration, stop)
    if evaluation is None:
        return False
    if iteration == 0:
        recorder.base(evaluation)
    else:
        recorder.late_evaluation(iteration, evaluation)
        session.checkpoints.save(iteration, session.evaluation.gain(evaluation))
    return True
