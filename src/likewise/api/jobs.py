"""One evaluation, in one process or several: draw what is missing, score it, join, sum up.

Processes share batches and meet in files only: each draws its batches of images, then scores the
same ones; the first process waits for all and joins their parts.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from likewise.api.early_checks import REAL
from likewise.api.targets import Target
from likewise.builders.benchmarks import load_benchmark
from likewise.builders.datasets import fit_held_out, fit_reference
from likewise.builders.metric_rewards import build_metric_rewards, build_metrics, check_metrics
from likewise.builders.policies import build_policy, build_sampler
from likewise.builders.rewards import build_evaluators, build_rewards
from likewise.config.data import Stickers
from likewise.config.evaluation_settings import STICKERS, EvaluationSettings
from likewise.devices import auto_threads
from likewise.evaluation.batches import Share, silent
from likewise.evaluation.before_after import before_after_sheet
from likewise.evaluation.drawing import (
    claim_system,
    clear_leftovers,
    draw_missing,
    plan,
    png,
    unfinished,
)
from likewise.evaluation.image_scoring import (
    SCORES,
    Scorers,
    join_parts,
    score_missing,
    truncated_prompts,
    unscored,
)
from likewise.evaluation.items import Item, match_rows, read_items, real_items
from likewise.evaluation.manifest import MANIFEST, Row, read_manifest
from likewise.evaluation.overlap import UNRECORDED, label, seen_subjects, trained_photos
from likewise.evaluation.settings import SETTINGS, Settings, claim_folder
from likewise.evaluation.summary import AFTER, BEFORE, Summary, summarise, write_summary
from likewise.protocols import Reward
from likewise.records.atomic import write_atomically
from likewise.records.locks import exclusive
from likewise.records.run_directory import RunDirectory
from likewise.rollout.scoring import single_rewards
from likewise.trainer.launch import launch
from likewise.types import Task

SCORING_BATCH = 32  # images, where none are drawn
BEFORE_AFTER = "before-after.png"

Progress = Callable[[str, int, int], None]  # stage, batches done, and all of them


@dataclass(frozen=True)
class Job:
    """An evaluation, as each of its processes gets it.

    Attributes:
        out: Its folder.
        target: Whose images are measured.
        systems: Which of the target's systems.
        asked: Benchmark, protocol and so on; its `metrics` are not None.
        without: Ids of tasks that are left out.
        settings: What decides the numbers, defaults filled in.
        device, processes: What computes.
    """

    out: Path
    target: Target
    systems: tuple[str, ...]
    asked: EvaluationSettings
    without: frozenset[str]
    settings: Settings
    device: str
    processes: int

    @property
    def batch(self) -> int:
        """Images per batch."""
        recipe = self.target.recipe
        return recipe.rollout.micro_batch if recipe and self.target.draws else SCORING_BATCH

    def tasks(self) -> list[Task]:
        """Tasks of the benchmark, loaded now."""
        return load_benchmark(self.asked.benchmark, self.asked.tasks, self.without)

    @property
    def metrics(self) -> Mapping[str, str]:
        """Metric → encoder."""
        return self.asked.metrics or {}

    def items(self, system: str, tasks: Sequence[Task]) -> list[Item]:
        """All images of a system, drawn or not, once its manifest is written."""
        if system == REAL:
            return real_items(tasks)
        folder = self.out / system
        return match_rows(read_manifest(folder / MANIFEST), tasks, folder)


def carry_out(job: Job, tasks: Sequence[Task], progress: Progress) -> Summary:
    """Do what is left of a job, and sum up all systems that are in its folder by then.

    Args:
        progress: Called after each batch, of a job in one process.

    Raises:
        ValueError: the folder holds something else or is in use; an image cannot be read; a scorer
            fails.
        KeyboardInterrupt: a signal ended the processes.
    """

    def busy(process: str) -> ValueError:
        return ValueError(f"{job.out} is in use: process {process} evaluates there")

    if not (job.out / SETTINGS).exists():
        check_metrics(job.metrics)  # a wrong one must not leave a folder
    claim_folder(job.out, job.settings)
    with exclusive(job.out / ".lock", busy):
        for system in job.systems:
            if system != REAL:
                claim_system(job.out / system, _rows(job, tasks))
                clear_leftovers(job.out / system)
        if job.processes == 1:
            _work(job, tasks, Share(), progress)
        elif launch(job.processes, _work_in_process, job, remedy="the same command goes on"):
            raise KeyboardInterrupt
        for system in job.systems:
            join_parts(job.out / system, job.items(system, tasks), job.batch)
        return _sum_up(job, tasks)


def _rows(job: Job, tasks: Sequence[Task]) -> list[Row]:
    """The images of a system: those to draw, or those that another one has drawn."""
    settings, folder = job.settings, job.target.images
    if folder is None:
        assert settings.seed is not None
        return plan(tasks, settings.images_per_prompt, settings.seed)
    (system,) = job.systems
    return [
        Row(
            file=os.path.relpath(folder / item.file, job.out / system),
            subject=item.task.subject,
            prompt=item.task.prompt,
            task=item.task.id,
            number=item.number,
            seed=item.seed,
        )
        for item in read_items(folder, tasks)
    ]


def _work_in_process(job: Job) -> None:
    share = Share(int(os.environ["RANK"]), job.processes)
    torch.set_num_threads(auto_threads(job.processes))
    _work(job, job.tasks(), share, silent)


def _work(job: Job, tasks: Sequence[Task], share: Share, progress: Progress) -> None:
    gpus = torch.cuda.device_count() if job.device == "cuda" else 0
    device = torch.device(f"cuda:{share.index % gpus}" if gpus > 1 else job.device)
    items = {system: job.items(system, tasks) for system in job.systems}
    if job.target.draws and any(unfinished(own) for own in items.values()):
        _draw(job, items, share, device, progress)
    left = [name for name, own in items.items() if unscored(job.out / name, own, job.batch)]
    if left:
        scorers = _scorers(job, device)
        for name in left:
            report = partial(progress, f"score {name}")
            score_missing(scorers, job.out / name, items[name], job.batch, share, report)


def _draw(
    job: Job,
    items: Mapping[str, Sequence[Item]],
    share: Share,
    device: torch.device,
    progress: Progress,
) -> None:
    recipe = job.target.recipe
    assert recipe is not None
    policy = build_policy(recipe, device, trainable=False)
    if job.target.adapter is not None:
        policy.load_adapter(job.target.adapter)
    sampler, fit = build_sampler(recipe, policy), partial(fit_reference, policy=recipe.policy)
    for system, own in items.items():
        with policy.adapter_disabled() if system == BEFORE else nullcontext():
            report = partial(progress, f"draw {system}")
            draw_missing(policy, sampler, own, job.batch, fit, share, report)


def _scorers(job: Job, device: torch.device) -> Scorers:
    """Rewards of the recipe, diagnostics as far as they work, held-out evaluators, metrics.

    Real photos get metrics alone: they answer no prompt, and rewards and evaluators would compare
    the conditioning photo with itself.
    """
    rewards: dict[str, Reward] = {}
    optional: list[str] = []
    if job.systems != (REAL,) and job.target.recipe is not None:
        found = single_rewards(build_rewards(job.target.recipe, device))
        rewards |= {f"reward/{name}": reward for name, reward in found.items()}
        optional = [f"reward/{name}" for name in found if name not in job.target.recipe.credited]
    if job.systems != (REAL,):
        held_out = build_evaluators(job.target.recipe, device, job.asked.benchmark in STICKERS)
        rewards |= {f"evaluator/{name}": evaluator for name, evaluator in held_out.items()}
        rewards |= build_metric_rewards(job.metrics, device)
    return Scorers(rewards, build_metrics(job.metrics, device), optional)


def _sum_up(job: Job, tasks: Sequence[Task]) -> Summary:
    systems = [name for name in job.target.systems if (job.out / name / SCORES).exists()]
    items = {name: job.items(name, tasks) for name in systems}
    tables = {name: join_parts(job.out / name, items[name], job.batch) for name in systems}
    if set(systems) == {BEFORE, AFTER}:
        write_atomically(
            job.out / BEFORE_AFTER, png(before_after_sheet(items[BEFORE], items[AFTER]))
        )
    cut = {metric: n for one in tables.values() for metric, n in truncated_prompts(one).items()}
    for metric, count in cut.items():
        warnings.warn(
            f"{metric} read only the beginning of {count} prompts, which are longer than its "
            f"encoder takes: column {metric}/truncated says which",
            stacklevel=2,
        )
    summary = summarise(tables, job.settings, _trained_on(job, systems, tasks))
    write_summary(job.out, summary)
    return summary


def _trained_on(job: Job, systems: Sequence[str], tasks: Sequence[Task]) -> dict[str, str]:
    """What `Summary` says of a run that was trained on subjects of the benchmark.

    Sticker bench's subjects are in no training task of the sticker world.
    """
    run, recipe = job.target.run, job.target.recipe
    if run is None or recipe is None or AFTER not in systems or isinstance(recipe.data, Stickers):
        return {}
    trained = trained_photos(RunDirectory.open(run).read_rewards())
    if trained is None:
        return {AFTER: UNRECORDED}
    fits = (partial(fit_reference, policy=recipe.policy), fit_held_out)
    found = label(seen_subjects(trained, tasks, fits), tasks)
    return {AFTER: found} if found else {}
