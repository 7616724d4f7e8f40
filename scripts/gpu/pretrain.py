"""Train the nano generator on a GPU for some minutes: a new pool, then as many images as fit.

Started by `run.sh`. Begins from ``inputs/generator`` (a state), ``inputs/start`` (finished
weights), with --shipped from the weights in the package, else from random ones; the autoencoder is
``inputs/vae``, else the shipped one. Writes every minute: the averaged weights as a pipeline, what
they draw of held-out subjects, the log, and a state to resume from.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import torch
from transfer import (
    FILE_SIZE,
    FILES,
    PART_SIZE,
    TOTAL_SIZE,
    pack,
    parts_of,
    put,
    put_parts,
    reduce_state,
    size_of,
)

from likewise import assets
from likewise.pretrain import generator, nano
from likewise.pretrain.loop import STATE_FILE, FitRun, stored_step
from likewise.pretrain.pool import build_pool
from likewise.pretrain.stages import Folders
from likewise.records.environment import collect_environment

END_SECONDS = 20  # of the last save, and of leaving


def main() -> None:
    options = parse(sys.argv[1:])
    torch.set_float32_matmul_precision("high")  # of what autocast leaves in float32
    device = torch.device(options.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    run = prepare(options, device)
    vae = nano.load_vae(Folders(options.kit / "inputs", shipped()).vae())
    beginning = generator.begin(run)
    first_step = stored_step(run.folder / STATE_FILE)

    begun = time.monotonic()
    pool = build_pool(vae, options.individuals, device, options.workers, options.pool_seconds)
    pool_seconds = time.monotonic() - begun
    print(f"{len(pool.names)} individuals in {pool_seconds:.0f} s", flush=True)

    left = options.started + 60 * options.minutes - END_SECONDS - time.time()
    run = dataclasses.replace(run, minutes=max(left, 1.0) / 60)
    settings = dataclasses.replace(
        generator.SETTINGS,
        batch_size=options.batch_size,
        learning_rate=options.learning_rate,
        muon_rate=options.muon_rate,
        noisy_from=options.noisy_from,
        log_every=options.log_every,
    )
    facts = {
        "hardware": hardware(device),
        **collect_environment(),
        "batch_size": settings.batch_size,
        "learning_rate": settings.learning_rate,
        "muon_rate": settings.muon_rate,
        "noisy_from": settings.noisy_from,
        "compiled": options.compile,
        "individuals": len(pool.names),
        "pool_seconds": round(pool_seconds, 1),
        "first_step": first_step,
    }
    deliver = Delivery(run.folder, options.out, facts, options.started)
    models = run.folder.parent / "models" / "nano-kontext"
    generator.train_on(
        pool,
        vae,
        beginning,
        run,
        models,
        settings,
        on_device=True,
        until_time_is_up=True,
        on_save=deliver,
    )
    print(json.dumps(deliver.facts, indent=1))


def new_parser(program: str, about: str) -> argparse.ArgumentParser:
    """With the options that `run.sh` gives to either program; `about` begins with what it does."""
    parser = argparse.ArgumentParser(prog=f"run.sh {program}", description=about.splitlines()[0])
    parser.add_argument("--kit", type=Path, required=True, help="folder of inputs and work")
    parser.add_argument("--out", type=Path, required=True, help="folder of results")
    parser.add_argument("--started", type=float, required=True, help="when, seconds since 1970")
    parser.add_argument("--minutes", type=float, default=8.0, help="from --started to the end")
    return parser


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = new_parser("pretrain", __doc__)
    parser.add_argument("--pool-seconds", type=float, default=45.0, help="for making the pool")
    parser.add_argument("--individuals", type=int, default=100_000, help="in the pool, at most")
    parser.add_argument("--batch-size", type=int, default=1024)
    usual = generator.SETTINGS
    parser.add_argument("--learning-rate", type=float, default=usual.learning_rate)
    parser.add_argument("--muon-rate", type=float, default=usual.muon_rate)
    parser.add_argument(
        "--noisy-from", type=float, default=usual.noisy_from, help="share of exact captions"
    )
    parser.add_argument("--compile", action="store_true", help="takes a minute at first")
    parser.add_argument("--log-every", type=int, default=100, help="steps")
    parser.add_argument("--shipped", action="store_true", help="begin from the shipped weights")
    parser.add_argument("--device", help="default: cuda where there is one")
    cores = len(os.sched_getaffinity(0))
    parser.add_argument("--workers", type=int, default=cores, help="processes that draw")
    return parser.parse_args(arguments)


def shipped() -> Path:
    return Path(assets.__file__).parent


def prepare(options: argparse.Namespace, device: torch.device) -> FitRun:
    """The working folder, with the state to resume from where one came along."""
    folder, brought = options.kit / "work" / "generator", options.kit / "inputs" / "generator"
    if brought.exists() and not (folder / STATE_FILE).exists():
        shutil.copytree(brought, folder, dirs_exist_ok=True)
    start = options.kit / "inputs" / "start"
    warm_start = start if start.exists() else shipped() if options.shipped else None
    return FitRun(folder, device, options.workers, warm_start=warm_start, compile=options.compile)


def hardware(device: torch.device) -> str:
    """Name of the GPU, or how many cores."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{len(os.sched_getaffinity(0))} CPU cores"


class Delivery:
    """After every save, brings what it left behind to the output folder."""

    def __init__(self, work: Path, out: Path, facts: dict[str, Any], started: float) -> None:
        self.work, self.out, self.facts, self.started = work, out, facts, started

    def __call__(self, step: int) -> None:
        small = [self.work / "metrics.jsonl", self.work / f"sheet-{step:06d}.png"]
        for source, name in zip(small, ("metrics.jsonl", "sheet.png"), strict=True):
            if source.exists():
                put(self.out, name, lambda path, source=source: shutil.copyfile(source, path))
        pipeline = pack(self.work / "snapshot", self.work / "pipeline.tar")
        # One file more for the numbers below.
        files = FILES - len(small) - 1 - parts_of(pipeline.stat().st_size)
        room = TOTAL_SIZE - size_of(*small, pipeline) - FILE_SIZE // 16
        lean = self.work / "lean" / STATE_FILE
        lean.parent.mkdir(exist_ok=True)
        form = reduce_state(self.work / STATE_FILE, lean, min(room, files * PART_SIZE))
        digests = {source.name: put_parts(self.out, source) for source in (pipeline, lean)}
        images = (step - self.facts["first_step"]) * self.facts["batch_size"]
        self.facts |= {
            "step": step,
            "images": images,
            "seconds": round(time.time() - self.started, 1),
            "state": form,
            "sha256": digests,
        }
        text = json.dumps(self.facts, indent=1) + "\n"
        put(self.out, "pretrain.json", lambda path: path.write_text(text, encoding="utf-8"))


if __name__ == "__main__":
    main()
