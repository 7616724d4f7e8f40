"""A study that never ran: two arms, two seeds, four tasks, with numbers made up on purpose."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from likewise.config import load_recipe
from likewise.records import RunDirectory

EVIL = "<script>alert('x')</script> & \"a\" duck"
STUDY = """
name: made-up
description: Nothing was trained.
seeds: [0, 1]
arms:
  sars-tdw: {recipe: stickers, label: "SARS & TDW <b>"}
  naive: {recipe: stickers-naive, label: naive}
  sars-only: {recipe: stickers-sars-only}
baseline: naive
"""
TASKS = [
    {"task": f"t{n}", "subject": "duck" if n < 2 else "cup", "kind": kind, "complexity": 1 + n % 2}
    for n, kind in enumerate(["scene", "property", "scene", "layout"])
]
VERSUS = {
    "mean": 0.02,
    "over_seeds": [0.01, 0.03],
    "over_subjects": [0.005, 0.04],
    "p_subjects": 0.0004,
    "p_seeds": 0.5,
    "n_seeds": 2,
    "n_subjects": 2,
}


def make_run(path: Path, recipe: str = "stickers", seed: int = 0) -> RunDirectory:
    """Three iterations of two groups."""
    environment = {"command": ["x/likewise", "train", recipe], "versions": {"torch": "0"}}
    run = RunDirectory.create(path, load_recipe(recipe, [f"seed={seed}"]), environment)
    rng = np.random.default_rng(seed)
    for iteration in range(4):
        names = ("prompt", "identity", "evaluator/identity", "evaluator/prompt")
        row: dict[str, Any] = {"iteration": iteration}
        row |= {f"eval/{name}": 0.5 + 0.1 * iteration for name in names}
        if iteration:
            row |= {f"quadrant/{sign}": 0.25 for sign in ("++", "+-", "-+", "--")}
            row |= {"correlation": -0.2, "reward/prompt/mean": 0.7, "reward/identity/mean": 0.4}
            row |= {"weight/prompt/step_02": 0.6, "weight/identity/step_02": 0.4}
            z = rng.normal(size=(2, 8))
            run.write_rewards(iteration, _table(z))
        run.append_metrics(row)
        run.append_timings({"iteration": iteration, "seconds/total": 2.5, "peak_memory_mb": 900})
    return run


def _table(z: np.ndarray) -> dict[str, Any]:
    return {
        "task": ["t0"] * 8,
        "prompt": [EVIL] * 8,
        "kind": ["scene"] * 8,
        "reward/prompt": z[0],
        "reward/identity": z[1],
        "z/prompt": z[0],
        "z/identity": z[1],
        "complete": [True] * 8,
        "advantage/step_02": z.sum(0),
    }


def make_images(folder: Path, identity: float, prompt: float) -> None:
    """One grey image per task, all with the same scores."""
    (folder / "images").mkdir(parents=True)
    rows = []
    for number, task in enumerate(TASKS):
        file = f"images/{task['task']}-0.png"
        Image.new("RGB", (8, 8), (40 * number,) * 3).save(folder / file)
        scores = {"evaluator/identity": identity, "evaluator/prompt": prompt, "reward/prompt": 0.5}
        rows.append({"file": file, "number": 0, "prompt": EVIL, **task, **scores})
    pq.write_table(pa.Table.from_pylist(rows), folder / "scores.parquet")


def make_many_images(folder: Path, tasks: int) -> None:
    """So many small images, each another."""
    (folder / "images").mkdir(parents=True)
    rows = []
    for number in range(tasks):
        file = f"images/t{number}.png"
        Image.new("RGB", (64, 64), (number % 256, number // 256, 9)).save(folder / file)
        scores = {f"reward/{name}": number / tasks for name in ("a", "b", "c", "d")}
        scores |= {"evaluator/identity": number / tasks, "evaluator/prompt": 0.5}
        labels = {"task": f"t{number}", "subject": "duck", "kind": "scene", "complexity": 1}
        rows.append({"file": file, "number": 0, "prompt": f"duck {number}", **labels, **scores})
    pq.write_table(pa.Table.from_pylist(rows), folder / "scores.parquet")


def references(benchmark: str) -> dict[str, Image.Image]:
    """Red images, whatever the benchmark."""
    return {task["task"]: Image.new("RGB", (8, 8), "red") for task in TASKS}


def make_study(folder: Path, bare: bool = False) -> Path:
    """With results, images and attribution; `bare`: with runs alone."""
    folder.mkdir(parents=True)
    (folder / "study.yaml").write_text(STUDY)
    for arm, recipe in {"sars-tdw": "stickers", "naive": "stickers-naive"}.items():
        for seed in (0, 1):
            run = make_run(folder / "runs" / arm / f"seed-{seed}", recipe, seed)
            if not bare:
                make_images(run.path / "evaluation/study/after", 0.25, 1.0)
    if not bare:
        make_images(folder / "base" / "model", 0.75, 1.0)
        (folder / "results.json").write_text(json.dumps(make_results()))
        (folder / "attribution.json").write_text(json.dumps(ATTRIBUTION))
    return folder


def make_results() -> dict[str, Any]:
    estimate = {"mean": 0.5, "low": 0.4, "high": 0.6, "n": 4}
    aims = ["evaluator/identity", "evaluator/prompt"]
    low, high = dict.fromkeys(aims, estimate), {name: {**estimate, "mean": 0.7} for name in aims}
    cost = {"seconds": {"total": 2.5}, "relative": {"total": 1.0}, "peak_memory_mb": 900.0}

    def arm(label: str, metrics: dict[str, Any], versus: dict[str, Any]) -> dict[str, Any]:
        return {
            "label": label,
            "seeds": [0, 1],
            "metrics": {name: {**one, "per_seed": [0.5, 0.6]} for name, one in metrics.items()},
            "versus": versus,
            "hypervolume": {**estimate, "per_seed": [0.5, 0.5]},
            "pareto": bool(versus),
            "robustness": [{"category": "bird", "complexity": 1, "n": 4, **metrics}],
            "by_kind": [{"kind": "scene", "n": 4, **metrics}],
            "overhead": {**cost, "relative_memory": 1.0},
        }

    return {
        "study": "made-up",
        "baseline": "naive",
        "benchmark": "sticker-bench",
        "protocol": "single-ref",
        "tasks": 4,
        "seeds": [0, 1],
        "metrics": aims,
        "aims": aims,
        "base": low,
        "arms": {
            "sars-tdw": arm("SARS & TDW <b>", high, dict.fromkeys(aims, VERSUS)),
            "naive": arm("naive", low, {}),
        },
        "contrasts": [
            {"labels": ["SARS & TDW <b>", "other"], "versus": dict.fromkeys(aims, VERSUS)}
        ],
        "missing": ["train sars-only seed 0"],
        "commands": ["likewise train stickers", "likewise evaluate it"],
        "environment": {"python": "3.11", "versions": {"torch": "0"}},
    }


ATTRIBUTION = {
    "tasks": 4,
    "scorers": {
        name: {"share": [0.6, 0.3, 0.1], "low": [0.5, 0.2, 0.0], "high": [0.7, 0.4, 0.2]}
        for name in ("reward/prompt", "evaluator/identity")
    },
}
