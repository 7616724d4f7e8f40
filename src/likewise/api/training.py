"""Training from Python: ``from likewise import load_recipe, train``."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime, timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator, PartialState
from accelerate.utils import (
    InitProcessGroupKwargs,
    ProjectConfiguration,
    broadcast_object_list,
)

from likewise.builders.parts import build_parts
from likewise.builders.policies import copy_size
from likewise.config.comparing import leaves
from likewise.config.loading import load_recipe
from likewise.config.paths import with_absolute_paths
from likewise.config.recipe import Recipe
from likewise.devices import auto_device, auto_processes, auto_threads, dtype_of
from likewise.records.checkpoints import CheckpointStore
from likewise.records.environment import collect_environment, without_folders
from likewise.records.run_directory import RunDirectory
from likewise.terminal import SafeConsole
from likewise.trainer.interrupts import Interrupts
from likewise.trainer.kernels import deterministic, no_cudnn_attention
from likewise.trainer.launch import is_launched, launch
from likewise.trainer.launchers import refuse_unsupported
from likewise.trainer.loop import train as train_loop
from likewise.trainer.lost import naming_lost_processes
from likewise.trainer.origin import changes_since, refuse
from likewise.trainer.processes import Processes
from likewise.trainer.progress import Progress
from likewise.trainer.recorder import Recorder
from likewise.trainer.session import Session


@dataclass(frozen=True)
class Outcome:
    """How a launch ended.

    Attributes:
        run: What was written.
        iteration: The last one that is finished and in a checkpoint.
        finished: Whether that is the recipe's last.
        signal: Number of the signal that ended the launch early, else 0.
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
        recipe: A recipe, or what `load_recipe` takes.
        run_dir: A new or empty folder, or one that holds nothing learned; default
            ``runs/<recipe>-<time>``.
        quiet: Print nothing but warnings.

    Raises:
        ValueError: recipe, run directory or a plug-in does not fit (the message names it).
        TrainingError: the run could not go on. What was learned is in its checkpoints.
    """
    if not isinstance(recipe, Recipe):
        recipe = load_recipe(recipe)
    recipe = with_absolute_paths(settle(recipe))
    _refuse_unsupported(recipe)
    path = default_run_dir(recipe) if run_dir is None else Path(run_dir)
    RunDirectory.check_free(path)  # and again once it is made, when models have loaded
    path = _broadcast_path(path, recipe)
    return _run(_Job(path, recipe, quiet, environment=collect_environment()))


def resume(run_dir: str | Path, quiet: bool = False, accept_changes: bool = False) -> Outcome:
    """Go on with a run where its newest intact checkpoint ends; errors as `train`.

    On the same CPU the result is bit-identical to that of a run that was never interrupted, and on
    the same GPU with `run.deterministic`; otherwise a GPU's sums differ in their last bits.

    Args:
        run_dir: The run's folder.
        quiet: Print nothing but warnings.
        accept_changes: Go on although its recipe, or the dataset, is no longer what the newest
            checkpoint was made with; that is a warning then.

    Raises:
        ValueError: recipe or dataset have changed, and that is not accepted.
    """
    run = RunDirectory.open(Path(run_dir))
    recipe = settle(run.recipe)
    _refuse_unsupported(recipe)
    newest = CheckpointStore(run.checkpoints, 1).newest_listed()
    if newest is not None and not accept_changes:  # before models load
        refuse(changes_since(newest.folder, recipe), newest.iteration)
    return _run(_Job(run.path, recipe, quiet, accept_changes=accept_changes))


def default_run_dir(recipe: Recipe) -> Path:
    """``runs/<recipe>-<time>``, in the current folder."""
    return Path("runs") / f"{recipe.name}-{datetime.now():%Y%m%d-%H%M%S}"


def settle(recipe: Recipe) -> Recipe:
    """The recipe with `auto` replaced by what this machine has, so that a resumed run agrees.

    Raises:
        ValueError: the recipe asks for a GPU or a tracker that this machine does not have.
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


def _refuse_unsupported(recipe: Recipe) -> None:
    """Refuse what another launcher asks for and this run would not do, before anything is written.

    Raises:
        ValueError: see `trainer.launchers`.
    """
    refuse_unsupported(
        os.environ,
        dtype=recipe.policy.dtype,
        device=recipe.run.device,
        compiles=recipe.policy.compile,
    )
    copy_size(recipe)  # raises where copies do not fit the number of processes


def flat(recipe: Recipe) -> dict[str, Any]:
    """Dotted names → values that every tracker can store as hyperparameters.

    Trackers may be elsewhere: absolute paths are cut to their last part.
    """
    return {
        name: value if isinstance(value, int | float) else without_folders(str(value))
        for name, value in leaves(recipe).items()
    }


@dataclass(frozen=True)
class _Job:
    """What each process of a run needs to know.

    Attributes:
        environment: Of a new run; None for one that is resumed.
    """

    path: Path
    recipe: Recipe
    quiet: bool
    environment: Mapping[str, Any] | None = None
    accept_changes: bool = False


def _broadcast_path(path: Path, recipe: Recipe) -> Path:
    """The first process's path, where a launcher started several: default names hold the time."""
    if not is_launched():
        return path
    PartialState(cpu=recipe.run.device == "cpu", timeout=timedelta(seconds=recipe.run.timeout))
    (name,) = broadcast_object_list([str(path)])
    return Path(name)


def _run(job: _Job) -> Outcome:
    count, iterations = job.recipe.run.settled_processes, job.recipe.run.iterations
    if count == 1 or is_launched():
        received = _train_process(job)
    else:
        received = launch(count, _train_process, job, remedy=_remedy(job))
    run = RunDirectory(job.path)
    newest = CheckpointStore(run.checkpoints, 1).newest()
    iteration = 0 if newest is None else newest.iteration
    return Outcome(run, iteration, iteration >= iterations, received)


def _remedy(job: _Job) -> str:
    """What to do after a process was lost."""
    return f"go on after the newest checkpoint with: likewise train --resume {job.path}"


def _train_process(job: _Job) -> int:
    """One process of a run. Returns the signal that ended it, or 0.

    Whatever does not fit is found before a folder is made. Until then signals act at once.
    """
    recipe = job.recipe
    accelerator = Accelerator(
        cpu=recipe.run.device == "cpu",
        log_with=list(recipe.run.trackers) or None,
        kwargs_handlers=[InitProcessGroupKwargs(timeout=timedelta(seconds=recipe.run.timeout))],
        project_config=ProjectConfiguration(logging_dir=str(job.path / "trackers")),
    )
    processes = Processes(accelerator)
    assert isinstance(recipe.run.threads, int)
    torch.set_num_threads(recipe.run.threads)
    console = SafeConsole(quiet=not processes.is_main)
    progress = Progress(list(recipe.rewards), recipe.run.iterations, console, job.quiet)
    lost = naming_lost_processes(processes.index, processes.count, _remedy(job))
    with lost, progress.heeding("likewise.data"), ExitStack() as stack:
        if job.environment is None and processes.is_main:
            stack.enter_context(RunDirectory.open(job.path).lock())
        parts = build_parts(recipe, processes.device, processes)
        if job.environment is not None and processes.is_main:
            stack.enter_context(RunDirectory.start(job.path, recipe, job.environment))
        processes.wait()
        stack.enter_context(deterministic(recipe.run.deterministic))
        stack.enter_context(no_cudnn_attention())
        interrupts = stack.enter_context(Interrupts())
        run = RunDirectory.open(job.path)
        if processes.is_main:
            progress.keep(run.log)
        accelerator.init_trackers("likewise", config=flat(recipe))
        session = Session(recipe, run, parts, processes)
        recorder = Recorder(recipe, run, processes, progress)
        try:
            train_loop(session, recorder, interrupts, job.accept_changes)
            return max(processes.gather([interrupts.received]))
        finally:
            accelerator.end_training()
