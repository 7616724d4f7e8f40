"""A run beyond its end: ``likewise train --extend RUN run.iterations=80``."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from likewise.api.training import Outcome, default_run_dir, resume
from likewise.config.comparing import differences
from likewise.config.loading import load_recipe
from likewise.config.recipe import Recipe
from likewise.records.checkpoints import CheckpointStore
from likewise.records.environment import collect_environment
from likewise.records.run_directory import RECIPE, RunDirectory
from likewise.records.seal import MANIFEST, Checkpoint
from likewise.trainer.launch import is_launched
from likewise.trainer.learner import rate_after
from likewise.trainer.origin import datasets_of, write_origin
from likewise.trainer.state import REST

CHANGEABLE = ("name", "description", "run", "optimizer", "objective")


@dataclass(frozen=True)
class Extension:
    """A new run that is to begin at the state of another.

    Attributes:
        run: The other run.
        checkpoint: Its newest intact one, which the new run begins with.
        recipe: Of the new run.
    """

    run: RunDirectory
    checkpoint: Checkpoint
    recipe: Recipe

    @property
    def schedule(self) -> str:
        """What the learning rate does where the new run begins."""
        before, now = self.run.recipe, self.recipe
        rest = json.loads((self.checkpoint.folder / REST).read_text(encoding="utf-8"))
        done = int(rest["scheduler"]["last_epoch"])
        rates = [rate_after(one.optimizer, _updates(one), done) for one in (before, now)]
        if before.optimizer.schedule == now.optimizer.schedule == "constant":
            how = "the learning rate is constant"
        else:
            how = (
                f"schedule {now.optimizer.schedule} is laid out over {now.run.iterations} "
                f"iterations, and was {before.optimizer.schedule} over {before.run.iterations}"
            )
        went_on = f"{rates[1]:.3g}" + (
            "" if rates[0] == rates[1] else f" instead of {rates[0]:.3g}"
        )
        return f"{how}: the next step's is {went_on}"


def plan_extension(run_dir: str | Path, overrides: Sequence[str] = ()) -> Extension:
    """What `extend` would do; nothing is written.

    Raises:
        ValueError: there is no such run, it has no checkpoint, or it cannot be extended so.
    """
    if is_launched():
        raise ValueError(
            "a run cannot be extended inside another launcher: begin with likewise train --extend "
            "alone, stop it, and go on inside the launcher with --resume"
        )
    run = RunDirectory.open(Path(run_dir))
    checkpoint = CheckpointStore(run.checkpoints, 1).newest()
    if checkpoint is None:
        raise ValueError(f"the run {run_dir} has no intact checkpoint to begin with")
    recipe = load_recipe(run.path / RECIPE, overrides)
    _check(run, checkpoint, recipe)
    return Extension(run, checkpoint, recipe)


def extend(
    run_dir: str | Path,
    overrides: Sequence[str] = (),
    new_dir: str | Path | None = None,
    quiet: bool = False,
) -> Outcome:
    """Train on from where a run stands, in a folder of its own that holds its history too.

    The old folder stays as it is. Tasks, noise, optimiser and average go on as if the run had never
    ended; a schedule follows the new number of iterations.

    Args:
        overrides: Of the run's recipe: `run`, `optimizer` and `objective`, and at least
            ``run.iterations=N``.
        new_dir: A new or empty folder; default ``runs/<recipe>-<time>``.

    Raises:
        ValueError: as :func:`plan_extension`, or as :func:`likewise.train`.
    """
    plan = plan_extension(run_dir, overrides)
    path = default_run_dir(plan.recipe) if new_dir is None else Path(new_dir)
    begin(plan, path)
    return resume(path, quiet)


def begin(plan: Extension, path: Path) -> None:
    """Make the new run's folder, with the old one's history until its newest checkpoint."""
    new = RunDirectory.create(path, plan.recipe, collect_environment())
    iteration = plan.checkpoint.iteration
    for folder in ("rewards", "samples"):
        shutil.copytree(plan.run.path / folder, new.path / folder, dirs_exist_ok=True)
    for name in ("metrics.jsonl", "timings.jsonl"):
        if (plan.run.path / name).is_file():
            shutil.copy(plan.run.path / name, new.path / name)
    new.forget_after(iteration)

    def write(folder: Path) -> None:
        aside = shutil.ignore_patterns(MANIFEST)  # the store writes one of its own
        shutil.copytree(plan.checkpoint.folder, folder, ignore=aside, dirs_exist_ok=True)
        write_origin(folder, plan.recipe, datasets_of(plan.checkpoint.folder))

    store = CheckpointStore(new.checkpoints, plan.recipe.run.checkpoints.keep)
    store.save(iteration, write, plan.checkpoint.score)
    with new.log.open("a", encoding="utf-8") as log:
        log.write(f"goes on after iteration {iteration} of {plan.run.path}; {plan.schedule}\n")


def _check(run: RunDirectory, checkpoint: Checkpoint, recipe: Recipe) -> None:
    found = differences(recipe, run.recipe, CHANGEABLE)
    if found:
        raise ValueError(
            f"--extend goes on with the same run, and {'; '.join(found)}: train anew with "
            f"adapter.start={run.path} instead"
        )
    averages = [one.optimizer.ema_decay for one in (recipe, run.recipe)]
    if (averages[0] is None) != (averages[1] is None):
        raise ValueError("optimizer.ema_decay: --extend can neither begin nor end an average")
    if recipe.run.iterations <= checkpoint.iteration:
        raise ValueError(
            f"run.iterations is {recipe.run.iterations}, and {run.path} has done "
            f"{checkpoint.iteration}: give more, as in run.iterations={2 * checkpoint.iteration}"
        )


def _updates(recipe: Recipe) -> int:
    return recipe.run.iterations * recipe.optimizer.updates_per_iteration
