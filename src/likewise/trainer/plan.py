"""What a recipe will do, by arithmetic alone: images, forwards, updates. Does not import torch.

A *forward* takes one sample through the denoiser once, and a velocity with guidance needs two;
`probe` measures how long one takes.
"""

from __future__ import annotations

from dataclasses import dataclass

from likewise.config.objectives import Average, Forward
from likewise.config.recipe import Recipe
from likewise.config.rollout import AllSteps, RandomSteps, Rollout, WindowSteps
from likewise.rollout.layout import micro_batches


@dataclass(frozen=True)
class Work:
    """What has to be done, in all or by one process.

    Attributes:
        tasks: Prompts and references to encode.
        images: To decode and score.
        rollout: Forwards without gradient, on average where windows move.
        update: Forwards with gradient, each with its backward; on average too.
        reference: Forwards of the frozen reference, and of an old policy that is an average.
        finished: Images that are finished beside the samples, to decode and score too, on average;
            their forwards are part of `rollout`.
    """

    tasks: int
    images: int
    rollout: float
    update: float
    reference: float
    finished: float = 0.0


@dataclass(frozen=True)
class Plan:
    """A whole run.

    Attributes:
        iterations: Of the run.
        tasks, group_size: Of one iteration; their product is its images.
        trained: Steps that an iteration trains, of num_steps.
        iteration: Work of one iteration over all processes.
        busiest: Work of one iteration in the process that has most, for which all others wait.
        updates: Optimiser steps of the whole run.
        evaluations: How often the evaluation set is drawn, the start included.
        evaluation: Work of one of them, over all processes.
        processes: That share the work.
    """

    iterations: int
    tasks: int
    group_size: int
    trained: int
    num_steps: int
    iteration: Work
    busiest: Work
    updates: int
    evaluations: int
    evaluation: Work
    processes: int


def plan_of(recipe: Recipe) -> Plan:
    """The plan of a recipe whose `run.processes` is a number (see `api.settle`).

    Raises:
        ValueError: it is not.
    """
    processes = recipe.run.settled_processes
    settings, run = recipe.rollout, recipe.run
    shares = [_share(recipe, processes, index) for index in range(processes)]
    works = [_work(recipe, *share) for share in shares]
    looks = run.evaluation.tasks * settings.num_steps * recipe.policy.forwards
    return Plan(
        iterations=run.iterations,
        tasks=settings.tasks,
        group_size=settings.group_size,
        trained=settings.num_steps if recipe.objective.forward else trained_steps(settings),
        num_steps=settings.num_steps,
        iteration=_work(recipe, *map(sum, zip(*shares, strict=True))),
        busiest=max(works, key=lambda work: work.update),
        updates=run.iterations * recipe.optimizer.updates_per_iteration,
        evaluations=_evaluations(recipe),
        evaluation=Work(run.evaluation.tasks, run.evaluation.tasks, looks, 0, 0),
        processes=processes,
    )


def trained_steps(settings: Rollout) -> int:
    """How many steps every iteration trains, as `rollout.steps.plan_steps` chooses them."""
    stochastic = settings.num_steps - settings.deterministic_tail
    if isinstance(settings.trained, AllSteps):
        return stochastic
    if isinstance(settings.trained, RandomSteps):
        return max(1, round(settings.trained.fraction * stochastic))
    return settings.trained.size


def trained_at_fork(settings: Rollout) -> float:
    """How many of them, on average, are the first stochastic step, where a group may be one latent.

    A window and all steps begin with it; a random subset may leave it out.
    """
    if settings.shared_noise is False:
        return 0.0
    if isinstance(settings.trained, RandomSteps):
        return trained_steps(settings) / (settings.num_steps - settings.deterministic_tail)
    return 1.0


def mean_fork(settings: Rollout, iterations: int) -> float:
    """Steps before the first stochastic one: a mean over window positions.

    With shared noise, these and the first stochastic one are computed once per task instead of once
    per image. A window that moves at random is taken to be everywhere equally often.
    """
    if not isinstance(settings.trained, WindowSteps):
        return 0.0
    window = settings.trained
    starts = window.starts(settings.num_steps - settings.deterministic_tail)
    if window.order == "random":
        return sum(starts) / len(starts)
    passed = (starts[iteration // window.every % len(starts)] for iteration in range(iterations))
    return sum(passed) / iterations


def finishes(settings: Rollout, iterations: int) -> tuple[float, float, float, float]:
    """What a rule that needs gains has finished (`rollout.finishes`), on average over iterations.

    Returns:
        Images per task and their steps, where a group is one latent; images per sample, and theirs.
    """
    total, trained = settings.num_steps, trained_steps(settings)
    stochastic = total - settings.deterministic_tail
    if isinstance(settings.trained, RandomSteps):
        # A start is needed before each trained step and after it: not between two others.
        rest = stochastic - trained
        needed = 1 - rest * (rest - 1) / max(1, stochastic * (stochastic - 1))
        at_fork = trained / stochastic, total * trained / stochastic
        lengths = [needed * (total - step) for step in range(1, stochastic)]
        own = needed * len(lengths), sum(lengths)
    else:
        longest = total - mean_fork(settings, iterations)
        at_fork = 1.0, longest
        own = trained - 1.0, sum(longest - step for step in range(1, trained))
    if settings.shared_noise is False:
        return 0.0, 0.0, own[0] + at_fork[0], own[1] + at_fork[1]
    return *at_fork, *own


def _work(recipe: Recipe, tasks: int, images: int, forked: int) -> Work:
    settings, objective = recipe.rollout, recipe.objective
    forwards = recipe.policy.forwards  # per velocity
    if isinstance(objective, Forward):
        fresh = images * objective.draws * forwards
        steps = objective.num_steps or settings.num_steps
        others = objective.needs_reference + isinstance(objective.old, Average)
        return Work(tasks, images, images * steps * forwards, fresh, fresh * others)
    shares = settings.shared_noise is not False
    shared = mean_fork(settings, recipe.run.iterations) + 1 if shares else 0.0
    drawn = tasks * shared + images * (settings.num_steps - shared)
    forks = trained_at_fork(settings)
    learned = (forked * forks + images * (trained_steps(settings) - forks)) * forwards
    reference = learned if recipe.objective.kl > 0 else 0
    finished = 0.0
    if recipe.credit.shaping.needs_gains:
        at_fork, its_steps, own, own_steps = finishes(settings, recipe.run.iterations)
        finished = tasks * at_fork + images * own
        drawn += tasks * its_steps + images * own_steps
    return Work(tasks, images, drawn * forwards, learned, reference, finished)


def _share(recipe: Recipe, processes: int, index: int) -> tuple[int, int, int]:
    """Tasks and images of one process, and forwards of its updates at a trained fork.

    A group that two processes share counts for both. At the fork an update replays those batches of
    tasks, as the rollout made them, from which it has a sample: see `trajectories.replay_batches`.
    """
    settings, size = recipe.rollout, recipe.rollout.micro_batch
    layout = micro_batches(settings, recipe.optimizer, processes, index)
    images = sum(len(batch) for update in layout for batch in update)
    own = [{index // settings.group_size for batch in one for index in batch} for one in layout]
    positions = {task: position for position, task in enumerate(sorted(set().union(*own)))}
    parts = [{positions[task] // size for task in update} for update in own]
    forked = sum(min(size, len(positions) - part * size) for one in parts for part in one)
    return len(positions), images, forked


def _evaluations(recipe: Recipe) -> int:
    every, iterations = recipe.run.evaluation.every, recipe.run.iterations
    if not every:
        return 0
    return 1 + iterations // every + bool(iterations % every)  # the start, and always the last
