"""`likewise train --dry-run`: what a recipe will do, how much memory and how long that takes."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from accelerate import Accelerator
from psutil import virtual_memory

from likewise.api.dry_run import Memory, Planner, for_gpus, missing
from likewise.api.training import settle
from likewise.builders.parts import build_parts
from likewise.cli.memory import print_fit, print_memory, rows_table
from likewise.cli.recipes import print_recipe
from likewise.config import Recipe, load_recipe, to_yaml
from likewise.config.data import DreamBench
from likewise.terminal import SafeConsole
from likewise.trainer.launch import is_launched, launch
from likewise.trainer.plan import Plan, plan_of
from likewise.trainer.probe import Speed, probe
from likewise.trainer.processes import Processes

LARGEST_ON_CPU = 1_000_000_000  # parameters: beyond, a single step takes minutes


def print_plan(recipe: Recipe, gpus: int | None = None, gpu_memory: float | None = None) -> None:
    """Print the resolved recipe and its plan; errors as those of a run's start.

    The plan is arithmetic. Times are measured too where the run could start: on this machine, with
    all models here, and enough memory.

    Args:
        gpus: For so many GPUs, whatever this machine has.
        gpu_memory: Of each, in GB.
    """
    gone = missing(recipe)
    elsewhere = gpus is not None or gpu_memory is not None or bool(gone)
    recipe = for_gpus(recipe, gpus) if elsewhere else settle(recipe)
    plan, planner = plan_of(recipe), Planner(gpu=recipe.run.device != "cpu")
    print_recipe(recipe)
    console = SafeConsole(highlight=False)
    console.print()
    console.print(rows_table(_work_rows(recipe, plan)))
    with console.status("adding up memory…"):
        memory = planner.memory(recipe)
    print_memory(console, recipe, memory)
    if gpu_memory is not None:
        print_fit(console, planner, recipe, memory, gpu_memory)
    reason = _why_not_measured(recipe, memory, elsewhere, gone)
    if reason:
        console.print(f"Nothing was measured: {reason}.")
        return
    with console.status("measuring one micro-batch…"):
        speed = measure(recipe)
    console.print(rows_table(_speed_rows(recipe, plan, speed)))
    console.print("Nothing was trained. Times hold for this machine as busy as it is now.")


def _why_not_measured(recipe: Recipe, memory: Memory, elsewhere: bool, gone: list[str]) -> str:
    """Empty where a micro-batch can be tried out here and now."""
    if gone:
        return f"this machine has no folder {gone[0]}"
    if elsewhere:
        return "the plan is for other GPUs"
    if recipe.run.device == "cpu":
        if sum(memory.parameters.values()) > LARGEST_ON_CPU:
            return "the model is too large to try on a CPU"
        needed, free = memory.needs.peak * recipe.run.settled_processes, virtual_memory().available
    else:
        needed, (free, _) = memory.needs.peak, torch.cuda.mem_get_info()
    return "not enough memory is free" if needed > free else ""


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


def _work_rows(recipe: Recipe, plan: Plan) -> list[tuple[str, str]]:
    one, total = plan.iteration, plan.iterations
    rows = [
        ("iterations", f"{total}"),
        (
            "images per iteration",
            f"{plan.tasks} tasks × {plan.group_size} samples = {one.images}; "
            f"{one.images * total:,} in all",
        ),
        ("trained steps", f"{plan.trained} of {plan.num_steps}"),
        ("forwards per iteration", f"{one.rollout:,.0f} in the rollout, without gradient"),
        ("", f"{one.update:,.0f} in the update, each with a backward"),
    ]
    if one.finished:
        beside = f"{one.finished:,.0f} more images are finished and scored, for gains"
        rows.insert(2, ("", beside))
    if one.reference:
        rows.append(("", f"{one.reference:,.0f} of the frozen reference, for the KL"))
    rows.append(("optimiser steps", f"{plan.updates:,}"))
    if plan.evaluations:
        images = plan.evaluation.images
        rows.append(("evaluations", f"{plan.evaluations} × {images} images"))
        names = ", ".join(recipe.evaluator_names)
        rows.append(("", f"by the rewards and held-out evaluators ({names})" if names else _ALONE))
    if isinstance(recipe.data, DreamBench):
        rows.append(("data", _BENCHMARK))
    return rows


_ALONE = "by the rewards alone: no held-out evaluator, so reward hacking would go unseen"
_BENCHMARK = (
    "DreamBench is a benchmark. This run evaluates on the tasks that it trains on, and every "
    "evaluation of it on DreamBench will say so"
)


def _speed_rows(recipe: Recipe, plan: Plan, speed: Speed) -> list[tuple[str, str]]:
    per_process = "per process" if plan.processes > 1 else "of the process"
    return [
        ("machine", f"{recipe.run.device}, {plan.processes} process(es)"),
        ("time per iteration", f"about {duration(speed.of_iteration(plan))}"),
        ("time of the run", f"about {duration(speed.of_run(plan))}"),
        ("memory", f"at least {speed.memory_mb / 1024:.1f} GB {per_process}"),
    ]


def duration(seconds: float) -> str:
    """A duration in words: "0.8 s", "12 s", "25 min", "3.1 h"."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
