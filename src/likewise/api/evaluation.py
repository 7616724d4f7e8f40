"""What a run changed, on sticker bench: ``likewise.evaluate``."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import torch

from likewise.api.generation import find_adapter
from likewise.build import (
    build_benchmark,
    build_judges,
    build_policy,
    build_rewards,
    build_sampler,
)
from likewise.evaluation.before_after import Comparison, compare, picture
from likewise.records.files import write_atomically
from likewise.records.run_directory import RunDirectory
from likewise.rollout.scoring import beside_judges
from likewise.trainer.launch import auto_device
from likewise.types import KINDS


def evaluate(
    run_dir: str | Path,
    tasks: int = 150,
    seed: int = 0,
    best: bool = False,
    device: str | None = None,
) -> Comparison:
    """Draw sticker-bench tasks before and after training, from the same noise, and score both.

    Writes ``evaluation/before-after.json`` (measures, over all tasks and by kind) and ``.png`` (the
    first tasks, reference above before above after) into the run.

    Args:
        run_dir: A run with at least one checkpoint; its newest counts.
        tasks: How many of the 750, evenly over subjects and prompts.
        seed: Of the initial noise.
        best: Take the run's best checkpoint instead of its newest.
        device: Default: cuda where there is one, else cpu.

    Raises:
        ValueError: there is no such run, it has no intact checkpoint, or a scorer fails.
    """
    run_dir, place = Path(run_dir), torch.device(device or auto_device())
    RunDirectory.open(run_dir)
    recipe, folder = find_adapter(run_dir, None, best)
    assert folder is not None  # a run without checkpoints is an error
    policy = build_policy(recipe, place, trainable=False)
    policy.load_adapter(folder)
    comparison = compare(
        policy,
        build_sampler(recipe, policy),
        build_benchmark(tasks),
        beside_judges(build_rewards(recipe, place), build_judges(place)),
        recipe.rollout.micro_batch,
        seed,
    )
    _write(run_dir / "evaluation", comparison, folder, seed)
    return comparison


def _write(folder: Path, comparison: Comparison, adapter: Path, seed: int) -> None:
    folder.mkdir(exist_ok=True)
    kinds: dict[str, str | None] = {"all": None, **{kind: kind for kind in KINDS}}
    numbers = {
        "checkpoint": adapter.parent.name,
        "seed": seed,
        "measures": {
            title: {name: asdict(one) for name, one in comparison.measures(kind).items()}
            for title, kind in kinds.items()
        },
    }
    write_atomically(folder / "before-after.json", json.dumps(numbers, indent=2) + "\n")
    picture(comparison).save(folder / "before-after.png")
