"""A `likewise train` and `evaluate` without models, to test how a study deals with processes.

It writes real run directories and evaluation folders, goes on where it was killed, and takes a
moment per iteration: ``python standin.py train|evaluate …``. What it does to its own folder is in
``log.txt`` there. Environment: STANDIN_SECONDS per iteration; a unit whose words hold STANDIN_FAILS
fails.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from likewise.config import Recipe, load_recipe
from likewise.records import CheckpointStore, RunDirectory

TASKS = [("turtle", "a"), ("turtle", "b"), ("kite", "a"), ("kite", "b"), ("kite", "c")]
METRICS = (
    "reward/prompt",
    "reward/identity",
    "evaluator/identity",
    "evaluator/prompt",
    "dino/held-out",
)


def train(words: list[str]) -> int:
    devices, threads = (os.environ.get(n) for n in ("CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS"))
    print(f"GPUs {devices!r}, threads {threads}", flush=True)
    if words[0] == "--resume":
        run = RunDirectory.open(Path(words[1]))
    else:
        recipe, _, path, *overrides = words
        run = RunDirectory.create(Path(path), load_recipe(recipe, overrides), {"python": "3"})
    received: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: received.append(number))
    store = CheckpointStore(run.checkpoints, 1)
    with run.lock(), run.log.open("a") as log:
        newest = store.newest()
        done = newest.iteration if newest else 0
        run.forget_after(done)
        for iteration in range(done + 1, run.recipe.run.iterations + 1):
            time.sleep(float(os.environ.get("STANDIN_SECONDS", "0")))
            log.write(f"iteration {iteration}\n")
            log.flush()
            run.append_metrics({"iteration": iteration})
            run.append_timings({"iteration": iteration, "seconds/total": 1.0 + iteration})
            last = iteration == run.recipe.run.iterations
            if received or last:
                store.save(iteration, lambda folder: (folder / "adapter").write_text("trained"))
            if received and not last:
                return 128 + received[0]
    return 0


def evaluate(words: list[str]) -> int:
    target, options = words[0], dict(zip(words[1::2], words[2::2], strict=True))
    folder = Path(options["--out"])
    system = options.get("--only", "model")
    (folder / system).mkdir(parents=True, exist_ok=True)
    settings = {name: options[f"--{name}"] for name in ("benchmark", "protocol")}
    settings |= {name: int(options[f"--{name}"]) for name in ("tasks", "seed")}
    (folder / "settings.json").write_text(json.dumps(settings))
    recipe = load_recipe(options["--recipe"]) if system == "model" else None
    if recipe is None:
        recipe = RunDirectory.open(Path(target)).recipe
    time.sleep(float(os.environ.get("STANDIN_SECONDS", "0")))
    pq.write_table(scores(recipe, system), folder / system / "scores.parquet")
    (folder / "summary.json").write_text("{}")
    return 0


def scores(recipe: Recipe, system: str) -> pa.Table:
    """Numbers that follow from the recipe's credit and seed, and from the task."""
    credit = recipe.credit.model_dump_json() if system == "after" else ""
    seed = recipe.seed if system == "after" else ""

    def number(metric: str, task: int) -> float:
        return random.Random(f"{credit} {seed} {metric} {task}").random()

    columns: dict[str, list] = {
        "file": [f"images/{task}-0.png" for task in range(len(TASKS))],
        "task": [f"{subject}-{name}" for subject, name in TASKS],
        "number": [0 for _ in TASKS],
        "subject": [subject for subject, _ in TASKS],
        "category": ["animal" if subject == "turtle" else "thing" for subject, _ in TASKS],
        "class_name": [subject for subject, _ in TASKS],
        "kind": ["scene" if name == "a" else "layout" for _, name in TASKS],
        "complexity": [1 if name == "a" else 2 for _, name in TASKS],
        "prompt": [f"{subject} {name}" for subject, name in TASKS],
    }
    columns |= {name: [number(name, task) for task in range(len(TASKS))] for name in METRICS}
    columns["dino/photos"] = [[0.5, 0.25] for _ in TASKS]
    return pa.table(columns)


if __name__ == "__main__":
    command, *rest = sys.argv[1:]
    fails = os.environ.get("STANDIN_FAILS")
    if fails and fails in " ".join(rest):
        print("the machine is on fire")
        sys.exit(3)
    sys.exit({"train": train, "evaluate": evaluate}[command](rest))
