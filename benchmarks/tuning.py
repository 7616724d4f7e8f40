"""One trial of tuning: a run on stickers that is evaluated on tasks about its training subjects.

    python benchmarks/tuning.py runs/tuning/grpo-2e-3 stickers optimizer.learning_rate=2e-3

Settings are chosen by such trials, and judged afterwards on the held-out subjects of sticker bench,
which no trial has seen. The tasks are the first of `sticker-tuning`, which no run trains on;
where and how often they are drawn is the recipe's `run.evaluation`. The same command resumes.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from accelerate import Accelerator

from likewise.api.training import settle
from likewise.builders.parts import build_parts
from likewise.config import load_recipe
from likewise.data.stickers.world import tuning_tasks
from likewise.records import RunDirectory
from likewise.records.environment import collect_environment
from likewise.records.run_directory import RECIPE
from likewise.terminal import SafeConsole
from likewise.trainer.interrupts import Interrupts
from likewise.trainer.loop import train
from likewise.trainer.metrics import evaluation_means
from likewise.trainer.processes import Processes
from likewise.trainer.progress import Progress
from likewise.trainer.recorder import Recorder
from likewise.trainer.session import Session

ALONE = ["run.processes=1", "run.threads=1", "run.trackers=[]", "run.evaluation.tasks=120"]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="run directory: new, or of a trial to go on with")
    parser.add_argument("recipe", help="as for likewise train")
    parser.add_argument("overrides", nargs="*", help="as in seed=1 optimizer.learning_rate=2e-3")
    options = parser.parse_args(arguments)
    run_trial(options.folder, options.recipe, options.overrides)
    report(RunDirectory.open(options.folder))


def run_trial(folder: Path, name: str, overrides: Sequence[str]) -> None:
    """Train to the recipe's last iteration, with evaluations on the trial's own tasks."""
    recipe = settle(load_recipe(name, [*ALONE, *overrides]))
    torch.set_num_threads(int(recipe.run.threads))
    processes = Processes(Accelerator(cpu=recipe.run.device == "cpu"))
    tasks = tuning_tasks()[: recipe.run.evaluation.tasks]
    parts = replace(build_parts(recipe, processes.device), evaluation_tasks=tasks)
    if not (folder / RECIPE).is_file():
        RunDirectory.create(folder, recipe, collect_environment())
    run = RunDirectory.open(folder)
    progress = Progress(list(recipe.rewards), recipe.run.iterations, SafeConsole(quiet=True), True)
    with run.lock(), Interrupts() as interrupts:
        session = Session(recipe, run, parts, processes)
        train(session, Recorder(recipe, run, processes, progress), interrupts)


def report(run: RunDirectory) -> None:
    """One line for each evaluation, as JSON."""
    for row in run.read_metrics():
        if means := evaluation_means(row):
            found = {name: round(value, 4) for name, value in means.items()}
            print(json.dumps({"iteration": row["iteration"], **found}))


if __name__ == "__main__":
    main()
