"""A fixed set of tasks, drawn without noise every so often: curves, and a grid to look at."""

from __future__ import annotations

import io
import time
import warnings
from collections.abc import Mapping, Sequence
from functools import cached_property

import torch
from PIL import Image
from torch import Tensor

from likewise.config.recipe import Recipe
from likewise.printable import printable
from likewise.protocols import Policy, Reward
from likewise.records.atomic import write_atomically
from likewise.records.run_directory import RunDirectory
from likewise.rollout.sampler import Sampler
from likewise.rollout.scoring import beside_evaluators, single_rewards, to_pil
from likewise.rollout.spoilt import AskedUsable
from likewise.rollout.trajectories import draw_images
from likewise.seeding import derive_seed
from likewise.sheets import contact_sheet, short_caption
from likewise.trainer.interrupts import Stop, never
from likewise.trainer.learner import Learner
from likewise.trainer.metrics import Numbers
from likewise.trainer.plugins import Parts
from likewise.trainer.processes import Processes
from likewise.trainer.state import seed_everything
from likewise.trainer.trackers import log_grid
from likewise.types import Task


class EvaluationSet:
    """The evaluation tasks of a run: when they are drawn, and what that says."""

    def __init__(
        self,
        recipe: Recipe,
        run: RunDirectory,
        parts: Parts,
        learner: Learner,
        processes: Processes,
    ) -> None:
        self.recipe, self.run, self.parts = recipe, run, parts
        self.learner, self.processes = learner, processes

    def should_evaluate(self, iteration: int) -> bool:
        """Whether the set is drawn once this iteration is finished."""
        run = self.recipe.run
        if run.evaluation.every == 0 or not self.parts.evaluation_tasks:
            return False
        return iteration == run.iterations or iteration % run.evaluation.every == 0

    def is_missing(self, iteration: int) -> bool:
        """Whether what should have run after the last finished iteration is missing; collective.

        That of iteration 0 makes its own row; all others belong into a row that is there.
        """
        if not self.should_evaluate(iteration):
            return False
        rows = [row for row in self.run.read_metrics() if row["iteration"] == iteration]
        done = any(key.startswith("eval/") for row in rows for key in row)
        missing = not done and (bool(rows) or iteration == 0)
        return self.processes.any(self.processes.is_main and missing)

    def evaluate(self, iteration: int, stop: Stop = never) -> Numbers | None:
        """What scorers say of the set; the main process also writes the sample grid.

        None where some process has to stop.
        """
        tasks, parts = self.parts.evaluation_tasks, self.parts
        seed_everything(self.recipe.seed, iteration, self.processes.index)
        with self.learner.averaged():
            found = evaluate(
                parts.policy,
                parts.sampler,
                beside_evaluators(parts.rewards, parts.evaluators),
                tasks,
                self.recipe.rollout.micro_batch,
                self.processes,
                stop,
                self.recipe.run.evaluation.grid,
                self.recipe.rollout.decode_batch,
            )
        if found is None:
            return None
        numbers, images = found
        if self.processes.is_main:
            sheet = grid(tasks[: len(images)], images)
            png = io.BytesIO()
            sheet.save(png, "png")
            write_atomically(self.run.sample_path(iteration), png.getvalue())
            log_grid(self.processes.accelerator.trackers, sheet, iteration)
        return numbers

    def gain(self, numbers: Numbers) -> float | None:
        """By how much the rewards of the set rose since the run began."""
        names = [
            name for name in single_rewards(self.parts.rewards) if name in self.recipe.credited
        ]
        return gain(names, self.base, numbers)

    @cached_property
    def base(self) -> Mapping[str, float | None]:
        """Numbers of the set before training."""
        rows = self.run.read_metrics()
        return rows[0] if rows and rows[0]["iteration"] == 0 else {}


def evaluate(
    policy: Policy,
    sampler: Sampler,
    scorers: Mapping[str, Reward],
    tasks: Sequence[Task],
    micro_batch: int,
    processes: Processes,
    stop: Stop = never,
    shown: int | None = None,
    decode_batch: int | None = None,
) -> tuple[Numbers, list[Image.Image]] | None:
    """Mean and std of every scorer over the tasks, and the images of the first ones.

    Images stay where they were drawn, but for those that the main process is to show.

    Noise follows from the task alone, so that evaluations of one run, and of several, compare.

    Args:
        stop: Asked before each micro-batch.
        shown: How many images are wanted; None: all.
        decode_batch: See `draw_images`.

    Returns:
        None where some process has to stop; no images but in the main process.
    """
    own = tasks[processes.index :: processes.count]
    decoded: list[Tensor] = []
    for start in range(0, len(own), micro_batch):
        if stop():
            break
        part = own[start : start + micro_batch]
        decoded += draw_images(policy, sampler, part, micro_batch, _seed, decode_batch)
    if processes.any(stop()):
        return None
    images = to_pil(decoded)
    scores = AskedUsable(scorers, decoded, own).scores(time.monotonic())
    scored = list(zip(scores.values.T.tolist(), scores.valid.T.tolist(), strict=True))
    for name, reason in scores.failures.items():
        warnings.warn(printable(f"{name} failed in an evaluation: {reason}"), stacklevel=2)
    for reason, count in scores.spoilt.items():
        warnings.warn(f"{count} images of an evaluation are {reason}: missing", stacklevel=2)
    shares = processes.gather([scored])
    ordered = [shares[i % len(shares)][i // len(shares)] for i in range(len(tasks))]
    numbers: Numbers = {}
    for k, name in enumerate(scorers):
        found = torch.tensor([values[k] for values, valid in ordered if valid[k]])
        numbers[f"eval/{name}"] = float(found.mean()) if len(found) else None
        numbers[f"eval/{name}/std"] = float(found.std()) if len(found) > 1 else None
    numbered = zip(range(processes.index, len(tasks), processes.count), images, strict=True)
    wanted = [(i, image) for i, image in numbered if shown is None or i < shown]
    return numbers, [image for _, image in sorted(processes.gather_on_main(wanted), key=_first)]


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


def _first(pair: tuple[int, Image.Image]) -> int:
    return pair[0]


def _seed(task: Task) -> int:
    return derive_seed("evaluation", task.id)
