"""Where the seconds of an iteration go, and what changes them: ratios of alternating rounds.

    python benchmarks/iteration.py --out benchmarks/results/DATE-iteration.json
    python benchmarks/iteration.py --rounds 9 --pairs 0 --only naive batch-1

A round makes one iteration of the nano generator in every shape of `SHAPES`, all in one process and
from the same weights; the order turns round from one round to the next. A ratio is to the default's
iteration of the same round. Then `likewise train` runs in one process and in two, in turn: a ratio
is of their median iterations. The machine has to be idle, with a core for each process.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from statistics import median
from typing import Any
from unittest.mock import patch

import torch
from accelerate import Accelerator
from credit_cost import ALONE, Cost, iterate, median_interval

from likewise.api.training import settle
from likewise.builders.parts import build_parts
from likewise.config import load_recipe
from likewise.policies.common import pipeline_policy
from likewise.records import RunDirectory
from likewise.records.environment import collect_environment
from likewise.trainer.processes import Processes
from likewise.trainer.session import Session

DEFAULT = "default"
BEFORE = "before"  # nothing shared, and attention's backward pass is torch's own
# Name → recipe and what is changed in it. As released code draws and learns: one image at a time,
# and each from its first step, though a group shares its initial noise.
SHAPES: Mapping[str, tuple[str, tuple[str, ...]]] = {
    DEFAULT: ("stickers", ()),
    "naive": ("stickers-naive", ()),
    "nft": ("stickers-nft", ()),
    "window-1": ("stickers", ("rollout.trained.size=1",)),
    "nothing-shared": ("stickers", ("rollout.shared_noise=false",)),
    BEFORE: ("stickers", ("rollout.shared_noise=false",)),
    "batch-1": ("stickers", ("rollout.shared_noise=false", "rollout.micro_batch=1")),
    **{f"group-{size}": ("stickers", (f"rollout.group_size={size}",)) for size in (6, 24, 48)},
}


def main(arguments: Sequence[str] | None = None) -> None:
    options = parse(arguments)
    changes = [f"rollout.tasks={options.tasks}", *options.overrides]
    with tempfile.TemporaryDirectory() as folder:
        sessions = build(Path(folder), [DEFAULT, *options.only], changes)
        found = {
            **collect_environment(),
            "hardware": hardware(next(iter(sessions.values())).processes.device),
            "changes": changes,
            "shapes": compare(sessions, options.rounds),
        }
        write(found, options.out)
        if options.pairs:
            found["processes"] = compare_processes(Path(folder), options.pairs, options.overrides)
            write(found, options.out)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9, help="at least 6, or intervals are ranges")
    parser.add_argument("--pairs", type=int, default=3, help="of runs in one and two processes")
    parser.add_argument("--tasks", type=int, default=2, help="of an iteration in the rounds")
    others = [name for name in SHAPES if name != DEFAULT]
    parser.add_argument("--only", nargs="*", default=others, choices=others, help="shapes to make")
    parser.add_argument("--out", type=Path, help="a JSON file; default: print")
    parser.add_argument("overrides", nargs="*", help="of all recipes, as in run.threads=1")
    return parser.parse_args(arguments)


def build(folder: Path, names: Sequence[str], changes: Sequence[str]) -> dict[str, Session]:
    """A run of the same parts in each shape."""
    recipes = {
        name: settle(load_recipe(recipe, [*ALONE, *changes, *own]))
        for name, (recipe, own) in SHAPES.items()
        if name in names
    }
    first = recipes[DEFAULT]
    torch.set_num_threads(int(first.run.threads))
    processes = Processes(Accelerator(cpu=first.run.device == "cpu"))
    parts = build_parts(first, processes.device)
    return {
        name: Session(one, RunDirectory.create(folder / name, one, {}), parts, processes)
        for name, one in recipes.items()
    }


def compare(sessions: Mapping[str, Session], rounds: int) -> dict[str, Any]:
    """By shape: seconds by phase, and their ratio to the default's; the first round warms up."""
    default = sessions[DEFAULT]
    start = [one.detach().clone() for one in default.learner.parameters]
    costs: dict[str, list[Cost]] = {name: [] for name in sessions}
    for number in range(rounds + 1):
        iteration = 1 + number % default.recipe.run.iterations
        for name in list(sessions)[:: 1 if number % 2 else -1]:
            with torchs_own_backward() if name == BEFORE else nullcontext():
                costs[name].append(iterate(sessions[name], iteration, start))
    kept = {name: own[1:] for name, own in costs.items()}
    return {name: summarise(own, kept[DEFAULT]) for name, own in kept.items()}


def torchs_own_backward() -> AbstractContextManager[object]:
    """A context in which 16-bit attention on a CPU is differentiated in 16 bits."""
    return patch.object(pipeline_policy, "Float32Backward", nullcontext)


def summarise(costs: Sequence[Cost], default: Sequence[Cost]) -> dict[str, Any]:
    """Medians over rounds, with the interval and range of each."""

    def by_phase(pick: Callable[[Cost], float]) -> dict[str, float]:
        return spread([pick(one) / pick(base) for one, base in zip(costs, default, strict=True)])

    phases = {"total": lambda cost: cost.seconds}
    phases |= {name: lambda cost, name=name: cost.phases[name] for name in costs[0].phases}
    return {
        "seconds": {name: spread([pick(one) for one in costs]) for name, pick in phases.items()},
        "ratio": {name: by_phase(pick) for name, pick in phases.items() if name != "credit"},
    }


def compare_processes(
    folder: Path, pairs: int, overrides: Sequence[str], iterations: int = 5
) -> dict[str, Any]:
    """Median iterations of `likewise train` in one process and in two, and their ratio."""
    medians: dict[int, list[float]] = {1: [], 2: []}
    for number in range(pairs):
        for count in (1, 2) if number % 2 else (2, 1):
            run = folder / f"processes-{count}-{number}"
            words = [f"run.processes={count}", f"run.iterations={iterations}"]
            words += ["run.evaluation.every=0", "run.trackers=[]", *overrides]
            command = [sys.executable, "-m", "likewise", "train", "stickers", *words]
            subprocess.run([*command, "--run-dir", str(run), "--quiet"], check=True)
            rows = RunDirectory.open(run).read_timings()
            medians[count].append(median(row["seconds/total"] for row in rows[1:]))
    ratios = [two / one for one, two in zip(medians[1], medians[2], strict=True)]
    return {
        "seconds": {str(count): spread(own) for count, own in medians.items()},
        "ratio of two to one": spread(ratios),
    }


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median, its interval, and the range."""
    low, high = median_interval(values)
    found = {"median": median(values), "low": low, "high": high}
    found |= {"least": min(values), "most": max(values)}
    return {name: round(value, 4) for name, value in found.items()} | {"count": len(values)}


def hardware(device: torch.device) -> str:
    """Name of the GPU, or the number of threads."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"CPU, {torch.get_num_threads()} threads"


def write(found: Mapping[str, Any], out: Path | None) -> None:
    """To the file, or to the screen."""
    text = json.dumps(found, indent=1)
    if out is None:
        print(text)
    else:
        out.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
