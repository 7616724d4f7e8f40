"""`likewise train`: start a run, go on with one, or plan one."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from likewise.cli.messages import USAGE, fail, readable_errors
from likewise.cli.options import recipe_names
from likewise.terminal import SafeConsole, shown

if TYPE_CHECKING:  # imports torch
    from likewise.api import Outcome

DEFAULT = "stickers"


WordsArgument = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[RECIPE] [KEY=VALUE]...",
        help="Shipped recipe (`likewise recipes` lists them) or YAML file, then changes to it, "
        "as in rollout.group_size=8, or ~rollout.shift to take a key out.",
        show_default=DEFAULT,
        autocompletion=recipe_names,
    ),
]
RunDirOption = Annotated[
    Path | None,
    typer.Option(help="Folder for the run, new or empty.", show_default="runs/RECIPE-DATE-TIME"),
]
ResumeOption = Annotated[
    Path | None,
    typer.Option(
        metavar="RUN_DIR",
        help="Folder of a run to go on with, from its newest checkpoint.",
        show_default="a new run",
    ),
]
AcceptChangesOption = Annotated[
    bool,
    typer.Option(
        "--accept-changes",
        help="With --resume: go on although recipe or dataset have changed since.",
    ),
]
ExtendOption = Annotated[
    Path | None,
    typer.Option(
        metavar="RUN_DIR",
        help="Folder of a run to train beyond its end, in a new folder that begins at its "
        "state; give run.iterations=N.",
        show_default="a new run",
    ),
]
DryRunOption = Annotated[
    bool,
    typer.Option(
        "--dry-run",
        help="Print recipe and plan, and train nothing; measure speed where the model is here.",
    ),
]
GpusOption = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="With --dry-run: number of GPUs to plan for.",
        show_default="those of this machine",
    ),
]
GpuMemoryOption = Annotated[
    float | None,
    typer.Option(
        metavar="GB",
        min=0,
        help="With --dry-run: memory of each GPU in GB; says whether the run fits, and if not, "
        "what would.",
        show_default="not checked",
    ),
]
QuietOption = Annotated[bool, typer.Option("--quiet", help="Print warnings and errors only.")]


def train(
    words: WordsArgument = None,
    run_dir: RunDirOption = None,
    resume: ResumeOption = None,
    accept_changes: AcceptChangesOption = False,
    extend: ExtendOption = None,
    dry_run: DryRunOption = False,
    gpus: GpusOption = None,
    gpu_memory: GpuMemoryOption = None,
    quiet: QuietOption = False,
) -> None:
    """Train a generator; SIGTERM or Ctrl-C stops it where --resume can go on.

    Exit codes: 0 finished, 1 the run could not go on, 2 something asked for does not fit, 128 + n
    signal n stopped it.
    """
    words = list(words or [])
    with readable_errors():
        if not dry_run and (gpus is not None or gpu_memory is not None):
            fail("--gpus and --gpu-memory plan a run: use them with --dry-run", USAGE)
        if accept_changes and resume is None:
            fail("--accept-changes goes on with a changed run: use it with --resume", USAGE)
        if resume is not None:
            if extend is not None:
                fail("--resume cannot be combined with --extend, which starts a new run", USAGE)
            _refuse_beside_resume(words, run_dir, dry_run)
            _resume(resume, quiet, accept_changes)
        elif extend is not None:
            if dry_run:
                fail("--extend cannot be combined with --dry-run, which plans a new run", USAGE)
            _extend(extend, words, run_dir, quiet)
        elif dry_run:
            from likewise.cli.estimate import print_plan
            from likewise.config import load_recipe

            print_plan(load_recipe(*split(words)), gpus, gpu_memory)
        else:
            _start(words, run_dir, quiet)


def split(words: Sequence[str]) -> tuple[str, list[str]]:
    """Recipe and overrides. A first word with ``=`` in it or ``~`` in front is not a recipe."""
    if not words or "=" in words[0] or words[0].startswith("~"):
        return DEFAULT, list(words)
    return words[0], list(words[1:])


def _refuse_beside_resume(words: Sequence[str], run_dir: Path | None, dry_run: bool) -> None:
    if words:
        fail(
            f"--resume cannot be combined with {' '.join(words)}: a resumed run keeps its recipe "
            "(more iterations: --extend; other settings: adapter.start)",
            USAGE,
        )
    if run_dir is not None:
        fail("--resume cannot be combined with --run-dir: a run goes on in its own folder", USAGE)
    if dry_run:
        fail("--resume cannot be combined with --dry-run, which plans a new run", USAGE)


def _start(words: Sequence[str], run_dir: Path | None, quiet: bool) -> None:
    from likewise.config import load_recipe

    recipe = load_recipe(*split(words))
    _require_free(run_dir)

    from likewise import api
    from likewise.api.training import default_run_dir

    path = run_dir or default_run_dir(recipe)
    _say(f"run directory: {path}", quiet)
    with _quiet_interrupts(path, quiet):
        _end(api.train(recipe, path, quiet), quiet)


def _require_free(run_dir: Path | None) -> None:
    """Refuse a folder that holds something else at once, before torch is imported."""
    from likewise.records import RunDirectory

    if run_dir is not None:
        RunDirectory.check_free(run_dir)


def _extend(run: Path, words: Sequence[str], run_dir: Path | None, quiet: bool) -> None:
    from likewise.records import RunDirectory

    RunDirectory.open(run)  # before torch is imported
    _require_free(run_dir)

    from likewise import api
    from likewise.api.extending import begin, plan_extension
    from likewise.api.training import default_run_dir

    plan = plan_extension(run, words)
    path = run_dir or default_run_dir(plan.recipe)
    begin(plan, path)
    done, wanted = plan.checkpoint.iteration, plan.recipe.run.iterations
    _say(f"run directory: {path} (goes on after iteration {done} of {run}, to {wanted})", quiet)
    _say(plan.schedule, quiet)
    with _quiet_interrupts(path, quiet):
        _end(api.resume(path, quiet), quiet)


def _resume(run_dir: Path, quiet: bool, accept_changes: bool) -> None:
    from likewise.records import CheckpointStore, RunDirectory

    run = RunDirectory.open(run_dir)
    iterations = run.recipe.run.iterations
    newest = CheckpointStore(run.checkpoints, 1).newest()
    done = 0 if newest is None else newest.iteration
    if done >= iterations:
        _say(f"{run_dir} is finished already: all {iterations} iterations are done", quiet)
        return

    from likewise import api

    _say(f"run directory: {run_dir} (goes on after iteration {done} of {iterations})", quiet)
    with _quiet_interrupts(run_dir, quiet):
        _end(api.resume(run_dir, quiet, accept_changes), quiet)


@contextmanager
def _quiet_interrupts(path: Path, quiet: bool) -> Iterator[None]:
    """Ctrl-C before the run heeds it, or a second one, without a traceback.

    Raises:
        typer.Exit: there was one.
    """
    try:
        yield
    except KeyboardInterrupt:
        _say(f"stopped ({signal.SIGINT.name}) {_how_it_stands(path)}", quiet)
        raise typer.Exit(128 + signal.SIGINT) from None


def _how_it_stands(path: Path) -> str:
    if path.is_dir():
        return f"at once; go on with: likewise train --resume {path}"
    return "before the run began; nothing was written"


def _end(outcome: Outcome, quiet: bool) -> None:
    """Say how it ended, and what can be done now; the exit code of a launch that a signal ended.

    Raises:
        typer.Exit: it is not finished.
    """
    path = outcome.run.path
    if outcome.finished:
        _say(
            f"finished: {outcome.iteration} iterations in {path}\n"
            f"look at it:   metrics.jsonl, and images in {path / 'samples'}\n"
            f"draw with it: likewise generate --adapter {path} --reference IMAGE --prompt TEXT",
            quiet,
        )
        return
    name = f" ({signal.Signals(outcome.signal).name})" if outcome.signal else ""
    if path.is_dir():
        how = f"after iteration {outcome.iteration}; go on with: likewise train --resume {path}"
    else:
        how = _how_it_stands(path)
    _say(f"stopped{name} {how}", quiet)
    raise typer.Exit(128 + outcome.signal)


def _say(message: str, quiet: bool) -> None:
    """Once, also where another launcher started this command several times."""
    if not quiet and os.environ.get("RANK", "0") == "0":
        SafeConsole(soft_wrap=True, highlight=False).print(shown(message))
