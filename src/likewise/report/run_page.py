"""The report of one or several runs."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from likewise.analysis.curves import curve
from likewise.analysis.overhead import run_cost
from likewise.config import to_yaml
from likewise.records.environment import without_folders
from likewise.report import result_tables, sections
from likewise.report.document import Block, Bullets, Card, Section, Shown, Text
from likewise.report.document import Gallery as Images
from likewise.report.drawn_samples import References, System, read_address, sample_gallery
from likewise.report.gradient_conflict import gradient_conflict
from likewise.report.reading import Arm, read_attribution, read_drawn, read_settings
from likewise.report.wording import count, number, reward_name

TASKS = 32  # per run
SHEET = 1200  # pixels across a sample grid, at most


def run_page(arms: Sequence[Arm], references: References) -> list[Section]:
    """All sections, for runs as arms of one run each."""
    clear = {arm.name for arm in arms}
    attributions = [found for arm in arms if (found := read_attribution(arm.runs[0])) is not None]
    return [
        _summary(arms),
        sections.training(arms, clear),
        sections.conflict(arms),
        *gradient_conflict(arms),
        sections.steps(arms, attributions[0] if attributions else None, arms),
        Section(
            "gallery", "Before and after", [b for arm in arms for b in _gallery(arm, references)]
        ),
        _costs(arms),
        *[_environment(number_, arm, len(arms) > 1) for number_, arm in enumerate(arms)],
    ]


def _summary(arms: Sequence[Arm]) -> Section:
    """First and last evaluation of every run."""
    said = []
    for arm in arms:
        recipe = arm.runs[0].recipe
        metrics = sections.evaluator_curves([arm])
        metrics |= {
            f"eval/{name}": reward_name(name, name in recipe.credited) for name in recipe.rewards
        }
        changes = []
        for metric, name in metrics.items():
            found = curve(arm.metrics, metric)
            if len(found.iterations) > 1:
                first, last = found.mean[0], found.mean[-1]
                changes.append(f"{name} {number(first)} → {number(last)}")
        done = max((row["iteration"] for row in arm.metrics[0]), default=0)
        said.append(
            f"{arm.label} ({recipe.name}, seed {recipe.seed}): {count(done, 'iteration')} of "
            f"{recipe.run.iterations}. {'; '.join(changes) or 'No evaluation yet'}."
        )
    note = (
        "From the first to the last evaluation during training. One seed is one draw: a difference "
        "between two runs says little of their recipes, which takes a study (likewise compare)."
    )
    return Section("headline", "Summary", [Bullets(said), Text(note)])


def _gallery(arm: Arm, references: References) -> list[Block]:
    """Galleries of the run's evaluations; else its first and last sample grid."""
    blocks: list[Block] = []
    for folder in sorted((arm.runs[0].path / "evaluation").glob("*/")):
        before, after = read_drawn(folder / "before"), read_drawn(folder / "after")
        if before is not None and after is not None:
            systems = [System("before", before), System("after", after)]
            images = references(str(read_settings(folder).get("benchmark", folder.name)))
            title = f"{arm.label}: {folder.name}"
            blocks.append(sample_gallery(title, systems, images, TASKS))
    return blocks or _samples(arm)


def _samples(arm: Arm) -> list[Block]:
    grids = _grids(arm.runs[0].path / "samples")
    chosen = dict([*grids[:1], *grids[-1:]])
    cards, unreadable = [], []
    for iteration, file in chosen.items():
        title = f"iteration {iteration}"
        alt = f"fixed tasks, references above images, {title}"
        try:
            address = read_address(file, SHEET)
        except ValueError:
            unreadable.append(file.name)
            continue
        assert address is not None
        cards.append(Card(title, {}, [Shown(address, "", alt)]))
    if unreadable:
        return [Text(f"{arm.label}: samples that are not images: {', '.join(unreadable)}.")]
    if not cards:
        return [Text(f"{arm.label}: no images yet.")]
    return [
        Text(f"{arm.label} has not been evaluated (likewise evaluate); samples from training:"),
        Images(arm.label, cards),
    ]


def _grids(folder: Path) -> list[tuple[int, Path]]:
    """Sample grids by iteration; files of other names are not the run's."""
    found = [file for file in folder.glob("*.png") if file.stem.isdecimal()]
    return sorted((int(file.stem), file) for file in found)


def _costs(arms: Sequence[Arm]) -> Section:
    costs = {arm.label: run_cost(arm.runs[0].read_timings()) for arm in arms}
    return Section("overhead", "What it costs", [result_tables.costs_table(costs)])


def _environment(number_: int, arm: Arm, named: bool) -> Section:
    run = arm.runs[0]
    facts: dict[str, Any] = dict(run.environment)
    words = facts.pop("command", None) or ["likewise", "train", run.recipe.name]
    command = shlex.join(["likewise", *map(str, words[1:])])
    part = sections.environment(facts, [command], without_folders(to_yaml(run.recipe)))
    title = f"{part.title}: {arm.label}" if named else part.title
    return Section(f"{part.slug}{number_ or ''}", title, part.blocks)
