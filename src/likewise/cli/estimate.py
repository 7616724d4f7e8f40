"""`likewise train --dry-run`: what a recipe will do, and how long that takes on this machine."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from accelerate import Accelerator
from rich.console import Console
from rich.table import Table

from likewise.api.training import settle
from likewise.build import build_parts
from likewise.cli.recipes import print_recipe
from likewise.config import Recipe, load_recipe, to_yaml
from likewise.trainer.launch import is_launched, launch
from likewise.trainer.plan import Plan, plan_of
from likewise.trainer.probe import Speed, probe
from likewise.trainer.processes import Processes


def print_plan(recipe: Recipe) -> None:
    """Print the resolved recipe and its plan; errors as those of a run's start."""
    recipe = settle(recipe)
    plan = plan_of(recipe)
    print_recipe(recipe)
    console = Console(highlight=False)
    console.print()
    console.print(_table(_work_rows(plan)))
    with console.status("measuring one micro-batch…"):
        speed = measure(recipe)
    console.print(_table(_speed_rows(recipe, plan, speed)))
    console.print("Nothing was trained. Times hold for this machine as busy as it is now.")


def measure(recipe: Recipe) -> Speed:
    """Time the parts of an iteration, in as many processes as the run will have."""
    count = recipe.run.processes
    assert isinstance(count, int)
    with TemporaryDirectory(prefix="likewise-") as folder:
        (Path(folder) / "recipe.yaml").write_text(to_yaml(recipe), encoding="utf-8")
        if count == 1 or is_launched():
            _measure(folder)
        else:
            launch(count, _measure, folder)
        result = Path(folder) / "speed.json"
        if not result.is_file():
            raise KeyboardInterrupt  # the only way to end without a result or an error
        return Speed(**json.loads(result.read_text(encoding="utf-8")))


def _measure(folder: str) -> None:
    """One process; the main one leaves the result in `folder`."""
    recipe = load_recipe(Path(folder) / "recipe.yaml")
    processes = Processes(Accelerator(cpu=recipe.run.device == "cpu"))
    assert isinstance(recipe.run.threads, int)
    torch.set_num_threads(recipe.run.threads)
    speed = probe(recipe, build_parts(recipe, processes.device), processes)
    if processes.is_main:
        text = json.dumps(asdict(speed))
        (Path(folder) / "speed.json").write_text(text, encoding="utf-8")
    processes.accelerator.end_training()


def _work_rows(plan: Plan) -> list[tuple[str, str]]:
    one, total = plan.iteration, plan.iterations
    rows = [
        ("iterations", f"{total}"),
        (
            "pictures per iteration",
            f"{plan.tasks} tasks × {plan.group_size} members = {one.pictures}; "
            f"{one.pictures * total:,} in all",
        ),
        ("trained steps", f"{plan.trained} of {plan.num_steps}"),
        ("forwards per iteration", f"{one.rollout:,.0f} in the rollout, without gradient"),
        ("", f"{one.update:,} in the update, each with a backward"),
    ]
    if one.reference:
        rows.append(("", f"{one.reference:,} of the frozen reference, for the KL"))
    rows.append(("optimiser steps", f"{plan.updates:,}"))
    if plan.evaluations:
        pictures = plan.evaluation.pictures
        rows.append(("evaluations", f"{plan.evaluations} × {pictures} pictures, by judges too"))
    return rows


def _speed_rows(recipe: Recipe, plan: Plan, speed: Speed) -> list[tuple[str, str]]:
    per_process = "per process" if plan.processes > 1 else "of the process"
    return [
        ("trained parameters", f"{speed.parameters:,}"),
        ("machine", f"{recipe.run.device}, {plan.processes} process(es)"),
        ("time per iteration", f"about {duration(speed.of_iteration(plan))}"),
        ("time of the run", f"about {duration(speed.of_run(plan))}"),
        ("memory", f"at least {speed.memory_mb / 1024:.1f} GB {per_process}"),
    ]


def _table(rows: list[tuple[str, str]]) -> Table:
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold", min_width=22)
    table.add_column(overflow="fold")
    for row in rows:
        table.add_row(*row)
    return table


def duration(seconds: float) -> str:
    """In a unit that suits: "0.8 s", "12 s", "25 min", "3.1 h"."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
