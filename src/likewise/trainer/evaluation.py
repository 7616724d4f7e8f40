"""A fixed set of tasks, drawn without noise every so often: curves, and a grid to look at."""

from __future__ import annotations

import time
import warnings
from collections.abc import Mapping, Sequence

import torch
from PIL import Image
from torch import Tensor

from likewise.printable import printable
from likewise.protocols import Policy, Reward
from likewise.rollout.sampler import Sampler
from likewise.rollout.scoring import to_pil
from likewise.rollout.spoilt import AskedUsable
from likewise.rollout.trajectories import draw_images
from likewise.seeding import derive_seed
from likewise.sheets import contact_sheet, short_caption
from likewise.trainer.interrupts import Stop, never
from likewise.trainer.metrics import Numbers
from likewise.trainer.processes import Processes
from likewise.types import Task


def evaluate(
    policy: Policy,
    sampler: Sampler,
    scorers: Mapping[str, Reward],
    tasks: Sequence[Task],
    micro_batch: int,
    processes: Processes,
    stop: Stop = never,
) -> tuple[Numbers, list[Image.Image]] | None:
    """Mean and std of every scorer over the tasks, and the images in the order of tasks.

    Noise follows from the task alone, so that evaluations of one run, and of several, compare.

    Args:
        stop: Asked before each micro-batch.

    Returns:
        None where some process has to stop.
    """
    own = tasks[processes.index :: processes.count]
    decoded: list[Tensor] = []
    for start in range(0, len(own), micro_batch):
        if stop():
            break
        part = own[start : start + micro_batch]
        decoded += draw_images(policy, sampler, part, micro_batch, _seed)
    if processes.any(stop()):
        return None
    images = to_pil(decoded)
    scores = AskedUsable(scorers, decoded, own).scores(time.monotonic())
    scored = list(zip(images, scores.values.T.tolist(), scores.valid.T.tolist(), strict=True))
    for name, reason in scores.failures.items():
        warnings.warn(printable(f"{name} failed in an evaluation: {reason}"), stacklevel=2)
    for reason, count in scores.spoilt.items():
        warnings.warn(f"{count} images of an evaluation are {reason}: missing", stacklevel=2)
    shares = processes.gather([scored])
    ordered = [shares[i % len(shares)][i // len(shares)] for i in range(len(tasks))]
    numbers: Numbers = {}
    for k, name in enumerate(scorers):
        found = torch.tensor([values[k] for _, values, valid in ordered if valid[k]])
        numbers[f"eval/{name}"] = float(found.mean()) if len(found) else None
        numbers[f"eval/{name}/std"] = float(found.std()) if len(found) > 1 else None
    return numbers, [image for image, _, _ in ordered]


def gain(names: Sequence[str], before: Mapping[str, float | None], now: Numbers) -> float | None:
    """How much the rewards rose, in standard deviations over tasks before training; mean of all.

    By this the best checkpoint is chosen; evaluators have no say in it.
    """
    gains = []
    for name in names:
        start, spread = before.get(f"eval/{name}"), before.get(f"eval/{name}/std")
        value = now.get(f"eval/{name}")
        if start is None:
            continue  # it had nothing to say of these tasks before training either
        if value is None or not spread:
            return None
        gains.append((value - start) / spread)
    return sum(gains) / len(gains) if gains else None


def grid(tasks: Sequence[Task], images: Sequence[Image.Image], columns: int = 8) -> Image.Image:
    """Rows of references, each above what was drawn of them."""
    rows: list[tuple[list[str], list[Image.Image]]] = []
    for start in range(0, len(tasks), columns):
        part = tasks[start : start + columns]
        rows.append((["reference"] * len(part), [task.reference for task in part]))
        rows.append(([short_caption(task) for task in part], list(images[start:][: len(part)])))
    return contact_sheet(rows)


def _seed(task: Task) -> int:
    return derive_seed("evaluation", task.id)
