"""An evaluation that is killed again and again ends as if nothing had happened, in every bit.

Evaluations start as forks of a server that has imported everything, because that takes longer than
they do.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import time
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import pytest
from tiny import tiny_pipeline

BATCH, TASKS, NUMBERS = 2, 5, 2
HEAVY = [
    "diffusers.pipelines.flux.pipeline_flux_kontext",
    "likewise.api.evaluation",
    "likewise.policies.flux_kontext",
    "peft",
    "transformers.models.clip.modeling_clip",
    "transformers.models.t5.modeling_t5",
]


def work(model: Path, out: Path, processes: int = 1) -> None:
    """What is killed: a model on few tasks, with a disk that takes its time."""
    from likewise import EvaluationSettings, load_recipe
    from likewise.api import evaluate

    sync = os.fsync
    os.fsync = lambda handle: (time.sleep(0.005), sync(handle))[1]
    size = [f"policy.{side}=16" for side in ("height", "width", "max_sequence_length")]
    recipe = load_recipe(
        "stickers", [f"rollout.micro_batch={BATCH}", "policy.dtype=float32", *size]
    )
    evaluate(
        model,
        EvaluationSettings(steps=2, tasks=TASKS, images_per_prompt=NUMBERS),
        recipe=recipe,
        out=out,
        device="cpu",
        processes=processes,
    )


def start(model: Path, out: Path, processes: int = 1) -> ForkServerProcess:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(HEAVY)
    process = context.Process(target=work, args=(model, out, processes))
    process.start()
    return process


def finish(model: Path, out: Path, processes: int = 1) -> None:
    """A call that nobody kills."""
    process = start(model, out, processes)
    process.join(300)
    assert process.exitcode == 0


def files(out: Path) -> int:
    """How many there are, half-written ones too."""
    return sum(len(names) for _, _, names in os.walk(out))  # folders may vanish meanwhile


def contents(out: Path) -> dict[str, bytes]:
    files = (file for file in out.rglob("*") if file.is_file() and file.name != ".lock")
    return {str(file.relative_to(out)): file.read_bytes() for file in files}


def finished(out: Path) -> dict[Path, int]:
    """When the files of finished batches were written."""
    parts = sorted((out / "model" / "parts").glob("0*.parquet"))
    images = out / "model" / "images"
    names = [line.split('"')[3] for line in manifest(out)]
    batches = [names[at : at + BATCH] for at in range(0, len(names), BATCH)]
    whole = [
        images.parent / name
        for batch in batches
        if all((images.parent / name).exists() for name in batch)
        for name in batch
    ]
    return {file: file.stat().st_mtime_ns for file in [*whole, *parts]}


def manifest(out: Path) -> list[str]:
    file = out / "model" / "manifest.jsonl"
    return file.read_text().splitlines() if file.exists() else []


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("kills") / "tiny"
    tiny_pipeline().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def undisturbed(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a call that nobody kills."""
    out = tmp_path_factory.mktemp("undisturbed") / "out"
    finish(model, out)
    return out


@pytest.mark.slow
def test_kills_at_any_moment_change_nothing(model: Path, undisturbed: Path, tmp_path: Path) -> None:
    wanted = contents(undisturbed)
    assert len([name for name in wanted if name.endswith(".png")]) == TASKS * NUMBERS
    chance, out, kept, kills = random.Random(0), tmp_path / "out", dict[Path, int](), 0
    while True:
        process, goal = start(model, out), files(out) + chance.randint(1, 6)
        while process.is_alive() and files(out) < goal:
            time.sleep(0.002)
        time.sleep(chance.uniform(0, 0.02))
        process.kill()
        process.join()
        now = finished(out)
        for file, written in kept.items():  # parts go when they are joined
            assert now.get(file, written) == written, f"{file.name} was made twice"
        kept = now
        if process.exitcode == 0:
            break
        kills += 1
    assert kills >= 3
    assert contents(out) == wanted


def test_a_finished_evaluation_is_left_as_it_is(model: Path, undisturbed: Path) -> None:
    out, before = undisturbed, finished(undisturbed)
    assert len(before) == TASKS * NUMBERS
    wanted = contents(out)
    finish(model, out)
    assert finished(out) == before and contents(out) == wanted


@pytest.mark.slow
def test_processes_share_the_work(model: Path, undisturbed: Path, tmp_path: Path) -> None:
    finish(model, tmp_path / "out", processes=2)
    assert contents(tmp_path / "out") == contents(undisturbed)
