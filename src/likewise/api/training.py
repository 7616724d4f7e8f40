"""Training from Python: ``from likewise import load_recipe, train``."""

from __future__ import annotations

import os
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator, PartialState
from accelerate.utils import ProjectConfiguration, broadcast_object_list
from rich.console import Console

from likewise.build.parts import build_parts
from likewise.config.comparing import leaves
from likewise.config.loading import load_recipe
from likewise.config.recipe import Recipe
from likewise.records.checkpoints import CheckpointStore
from likewise.records.environment import collect_environment
from likewise.records.run_directory import RunDirectory
from likewise.trainer.interrupts import Interrupts
from likewise.trainer.launch import (
    auto_device,
    auto_processes,
    auto_threads,
    dtype_of,
    is_launched,
    launch,
)
from likewise.trainer.loop import train as train_loop
from likewise.trainer.processes import Processes
from likewise.trainer.progress import Progress
from likewise.trainer.recorder import Recorder
from likewise.trainer.session import Session


@dataclass(frozen=True)
class Outcome:
    """How a sitting ended.

    Attributes:
        run: What was written.
        iteration: The last one that is finished and in a checkpoint.
        finished: Whether that is the recipe's last.
        signal: Number of the signal that ended the sitting early, else 0.
    """

    run: RunDirectory
    iteration: int
    finished: bool
    signal: int


def train(
    recipe: Recipe | str | Path = "stickers", run_dir: str | Path | None = None, quiet: bool = False
) -> Outcome:
    """Start a run, and train until it is finished or a signal ends it.

    Args:
        recipe: A recipe, or what :func:`load_recipe` takes.
        run_dir: A new or empty folder; default ``runs/<recipe>-<time>``.
        quiet: Print nothing but warnings.

    Raises:
        ValueError: recipe, run directory or a plug-in does not fit (the message names it).
        TrainingError: the run could not go on. What was learned is in its checkpoints.
    """
    if not isinstance(recipe, Recipe):
        recipe = load_recipe(recipe)
    recipe = settle(recipe)
    run_dir = default_run_dir(recipe) if run_dir is None else Path(run_dir)
    return _sit(_create(run_dir, recipe), quiet)


def resume(run_dir: str | Path, quiet: bool = False) -> Outcome:
    """Go on with a run where its newest intact checkpoint ends; errors as :func:`train`.

    On the same machine the result is bit-identical to that of a run that was never interrupted.
    """
    return _sit(RunDirectory.open(Path(run_dir)), quiet)


def default_run_dir(recipe: Recipe) -> Path:
    """``runs/<recipe>-<time>``, in the current folder."""
    return Path("runs") / f"{recipe.name}-{datetime.now():%Y%m%d-%H%M%S}"


def settle(recipe: Recipe) -> Recipe:
    """The recipe with `auto` replaced by what this machine has, so that a resumed run agrees.

    Raises:
        ValueError: it asks for what is not here: a GPU, or a tracker's package.
    """
    device = auto_device() if recipe.run.device == "auto" else recipe.run.device
    if device == "cuda" and not torch.cuda.is_available():
        raise ValueError("run.device is cuda, but torch finds no GPU here: use cpu or auto")
    for tracker in recipe.run.trackers:
        if find_spec(tracker) is None:
            raise ValueError(f"run.trackers names {tracker}, which is not installed")
    processes = recipe.run.processes
    if is_launched():
        processes = int(os.environ["WORLD_SIZE"])
    elif processes == "auto":
        processes = auto_processes(device)
    threads = recipe.run.threads
    if threads == "auto":
        threads = auto_threads(processes)
    found = {"device": device, "processes": processes, "threads": threads}
    dtype = str(dtype_of(recipe.policy.dtype, device)).removeprefix("torch.")
    settled = {
        "policy": recipe.policy.model_copy(update={"dtype": dtype}),
        "run": recipe.run.model_copy(update=found),
    }
    return recipe.model_copy(update=settled)


def flat(recipe: Recipe) -> dict[str, Any]:
    """Dotted names → values that every tracker can store as hyperparameters."""
    return {
        name: value if isinstance(value, int | float | str) else str(value)
        for name, value in leaves(recipe).items()
    }


def _create(path: Path, recipe: Recipe) -> RunDirectory:
    """A new run directory; where a launcher started several processes, one for all of them."""
    if not is_launched():
        return RunDirectory.create(path, recipe, collect_environment())
    state = PartialState(cpu=recipe.run.device == "cpu")
    (name,) = broadcast_object_list([str(path)])  # default names hold the time
    if state.is_main_process:
        RunDirectory.create(Path(name), recipe, collect_environment())
    state.wait_for_everyone()
    return RunDirectory.open(Path(name))


def _sit(run: RunDirectory, quiet: bool) -> Outcome:
    count = run.recipe.run.processes
    assert isinstance(count, int)
    received = 0
    if count == 1 or is_launched():
        received = _work(run.path, quiet)
    else:
        received = launch(count, _work, run.path, quiet)
    newest = CheckpointStore(run.checkpoints, 1).newest()
    iteration = 0 if newest is None else newest.iteration
    return Outcome(run, iteration, iteration >= run.recipe.run.iterations, received)


def _work(path: Path, quiet: bool) -> int:
    """One process of a run. Returns the signal that ended it, or 0."""
    run = RunDirectory.open(path)
    recipe = run.recipe
    accelerator = Accelerator(
        cpu=recipe.run.device == "cpu",
        log_with=list(recipe.run.trackers) or None,
        project_config=ProjectConfiguration(logging_dir=str(path / "trackers")),
    )
    processes = Processes(accelerator)
    assert isinstance(recipe.run.threads, int)
    torch.set_num_threads(recipe.run.threads)
    console = Console(quiet=not processes.is_main)
    log = run.log if processes.is_main else None
    progress = Progress(list(recipe.rewards), recipe.run.iterations, console, log, quiet)
    lock = run.lock() if processes.is_main else nullcontext()
    with lock, progress.heeding("likewise.data"), Interrupts() as interrupts:
        parts = build_parts(recipe, processes.device)
        accelerator.init_trackers("likewise", config=flat(recipe))
        session = Session(recipe, run, parts, processes)
        recorder = Recorder(recipe, run, processes, progress)
        try:
            train_loop(session, recorder, interrupts)
            return max(processes.gather([interrupts.received]))
        finally:
            accelerator.end_training()
