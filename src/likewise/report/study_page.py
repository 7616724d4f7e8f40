"""The report of a study."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import Any

from likewise.report import result_tables, sections
from likewise.report.both_evaluators import both_evaluators
from likewise.report.document import Block, Bullets, Gallery, Section, Text
from likewise.report.drawn_samples import References, System, sample_gallery, worst_gallery
from likewise.report.reading import StudyFolder
from likewise.report.wording import better_on_both, count, difference, finding, number, plain

CLEAR = ("sars-only", "tdw-only")  # beside candidate and baseline
TASKS, WORST = 48, 8
NO_RESULTS = "results.json is missing, so there are no numbers yet: likewise compare writes it."


def study_page(study: StudyFolder, references: References) -> list[Section]:
    """All sections; what is missing is left out with a sentence."""
    shown = [arm for arm in study.arms if arm.name in (study.candidate, study.baseline)]
    clear = {study.candidate, study.baseline, *CLEAR}
    parts = [_headline(study)]
    if study.results:
        parts += [_arms(study.results), both_evaluators(study, study.results)]
    if study.arms:
        parts += [
            sections.training(study.arms, clear),
            sections.conflict(shown),
            sections.steps(shown, study.attribution, study.arms),
        ]
    parts += _galleries(study, references)
    if study.results:
        parts += [_robustness(study, study.results), _overhead(study.results)]
    return [*parts, _environment(study)]


def _headline(study: StudyFolder) -> Section:
    results, title = study.results, "What was found"
    blocks: list[Block] = [Text(study.study.description)] if study.study.description else []
    if not results:
        return Section("headline", title, [Text(NO_RESULTS, lead=True), *blocks])
    if {study.candidate, study.baseline} - results["arms"].keys():
        said = "The arm in question or its baseline has not been evaluated yet."
        return Section("headline", title, [Text(said, lead=True), *blocks])
    noted = [*results.get("trained_on", {}).items(), *results.get("spoilt", {}).items()]
    blocks += [Text(f"{label}: {said}.") for label, said in noted]
    candidate, baseline = (
        results["arms"][arm]["label"] for arm in (study.candidate, study.baseline)
    )
    versus = results["arms"][study.candidate]["versus"]
    known = [aim for aim in results["aims"] if aim in versus]
    blocks.insert(0, Text(finding(candidate, baseline, results, study.candidate), lead=True))
    blocks += [
        Text(f"{candidate} minus {baseline}, paired by task and seed:"),
        Bullets([difference(aim, versus[aim]) for aim in known]),
        Text(better_on_both(baseline, results)),
        Text(_means(study, results)),
    ]
    if results["missing"]:
        some = ", ".join(results["missing"][:4]) + (" …" if results["missing"][4:] else "")
        left = count(len(results["missing"]), "unit")
        blocks.append(Text(f"Not finished, and not in these numbers: {left} ({some})."))
    return Section("headline", title, blocks)


def _means(study: StudyFolder, results: dict[str, Any]) -> str:
    """Means of candidate, baseline and the untrained model, on each aim."""
    systems = {results["arms"][arm]["label"]: results["arms"][arm]["metrics"]
               for arm in (study.candidate, study.baseline)}  # fmt: skip
    systems |= {"the untrained model": results["base"]} if results["base"] else {}
    said = [
        f"{plain(aim)}: "
        + ", ".join(
            f"{name} {number(found[aim]['mean'])}"
            for name, found in systems.items()
            if aim in found
        )
        for aim in results["aims"]
    ]
    return (
        f"Means on {count(results['tasks'], 'task')} of {results['benchmark']} "
        f"(protocol {results['protocol']}). {'. '.join(said)}."
    )


def _arms(results: dict[str, Any]) -> Section:
    blocks = [
        result_tables.arms_table(results),
        result_tables.differences_table(results),
        result_tables.contrasts_table(results),
    ]
    return Section("arms", "All arms", [block for block in blocks if block.rows])


def _galleries(study: StudyFolder, references: References) -> list[Section]:
    base = study.drawn(None)
    arms = {arm.name: arm for arm in study.arms}
    labels = {name: arm.label for name, arm in arms.items()}
    drawn = {
        (name, seed): found
        for name in (study.candidate, study.baseline)
        for seed in (arms[name].seeds if name in arms else ())
        if (found := study.drawn(name, seed)) is not None
    }
    both = [
        s
        for s in study.study.seeds
        if all((n, s) in drawn for n in (study.candidate, study.baseline))
    ]
    if not both or base is None:
        said = "No images yet of the untrained model, the baseline and the arm in question."
        return [Section("gallery", "Before and after", [Text(said)])]
    before = System("before", base)
    order = dict.fromkeys((study.baseline, study.candidate))
    systems = [before, *[System(labels[name], drawn[name, both[0]]) for name in order]]
    images = references(study.study.evaluation.benchmark)
    about = (
        f"The same tasks from the same noise; trainings of seed {both[0]}. Below each image is "
        "what the evaluators say. Choose an image to enlarge it."
    )
    sample = sample_gallery("A sample, evenly over kinds of prompts", systems, images, TASKS)
    after = [System(f"{labels[name]}, seed {seed}", found)
             for (name, seed), found in drawn.items() if name == study.candidate]  # fmt: skip
    return [
        Section("gallery", "Before and after", [Text(about), sample]),
        _failures(study, before, after, images),
    ]


def _failures(study: StudyFolder, before: System, after: Sequence[System], images: Any) -> Section:
    columns = [name for name in after[0].drawn.scores.column_names if name.startswith("evaluator/")]
    found: list[Gallery] = []
    for name in columns:
        for by_drop, what in ((True, "fell most"), (False, "is lowest")):
            title = f"Where “{plain(name)}” {what}"
            found.append(worst_gallery(title, name, before, after, images, WORST, by_drop))
    label = after[0].title.rpartition(", seed")[0]
    said = f"Chosen by the evaluators from all seeds of {label}, at most one image per task."
    galleries = [gallery for gallery in found if gallery.cards]
    return Section("failures", "Worst failures", [Text(said), *galleries])


def _robustness(study: StudyFolder, results: dict[str, Any]) -> Section:
    arms = [a for a in dict.fromkeys((study.candidate, study.baseline)) if a in results["arms"]]
    blocks = [
        result_tables.robustness_table(results, arms, "by_kind", ["kind"]),
        result_tables.robustness_table(results, arms, "robustness", ["category", "complexity"]),
    ]
    return Section("robustness", "Where it holds", [block for block in blocks if block.rows])


def _overhead(results: dict[str, Any]) -> Section:
    return Section("overhead", "What it costs", [result_tables.overhead_table(results)])


def _environment(study: StudyFolder) -> Section:
    name = shlex.quote(study.study.name)
    commands = [f"likewise compare {name} --out {study.folder.name}",
                f"likewise report {study.folder.name}"]  # fmt: skip
    results = study.results or {}
    facts = results.get("environment") or (study.arms[0].runs[0].environment if study.arms else {})
    facts = {key: value for key, value in facts.items() if key not in ("command", "started")}
    part = sections.environment(facts, commands)
    if units := results.get("commands"):
        note = sections.Code("\n".join(units), f"the {len(units)} commands that compare runs")
        return Section(part.slug, part.title, [*part.blocks[:2], note, *part.blocks[2:]])
    return part
