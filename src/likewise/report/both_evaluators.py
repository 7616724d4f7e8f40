"""The section that shows arms in the plane of both evaluators: means, and differences close up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from likewise.report import plots
from likewise.report.document import Block, Figure, Figures, Section, Text
from likewise.report.plots import Spot
from likewise.report.reading import StudyFolder
from likewise.report.wording import plain

ENOUGH = 5  # seeds for an interval over them that can be read beside others
FAR = 4  # times the median difference: an arm further off would press the others together


NO_AIMS = (
    "Nothing to show: {} and {} were not both measured. Name held-out evaluators in the recipe, or "
    "the study's aims."
)


def both_evaluators(study: StudyFolder, results: dict[str, Any]) -> Section:
    """Means with the front, then paired differences to the baseline."""
    title, (x, y) = "Both evaluators at once", results["aims"]
    spots = _means(study, results)
    if not spots:
        return Section("pareto", title, [Text(NO_AIMS.format(x, y))])
    near, far = _near(_differences(study, results))
    crowd = {spot.label for spot in near if spot.role == "other"}
    best = ", ".join(spot.label for spot in spots if spot.is_front)
    spots = [replace(spot, is_named=spot.label not in crowd) for spot in spots]
    caption = f"On the front (dashed): {best}."
    blocks: list[Block] = [
        Text(
            "Up and to the right is better. Bars: 95 % intervals over subjects; small dots: "
            "seeds. On the front is an arm whose means no other arm matches on both evaluators and "
            "beats on one."
        ),
        Figures([_figure("pareto", plain(x), plain(y), spots, caption)]),
    ]
    if crowd:
        over = _over(results).removeprefix("over_")
        caption = f"Paired differences to {near[0].label}, with 95 % intervals over {over}"
        if far:
            caption += f"; out of the image: {', '.join(spot.label for spot in far)}"
        across, up = (f"difference of {plain(aim)}" for aim in (x, y))
        blocks += [
            Text(
                "The same close up, as differences. Subjects differ much more than arms do, and "
                "pairing takes that out."
            ),
            Figures([_figure("differences", across, up, near, f"{caption}.")]),
        ]
    return Section("pareto", title, blocks)


def _means(study: StudyFolder, results: dict[str, Any]) -> list[Spot]:
    x, y = results["aims"]
    systems = [
        (_role(study, name), arm["label"], arm["metrics"], arm["pareto"])
        for name, arm in results["arms"].items()
    ]
    if results["base"]:
        systems.append(("base", "untrained", results["base"], False))
    return [
        Spot(
            label=label,
            x=found[x]["mean"],
            y=found[y]["mean"],
            x_bar=_bar(found[x]["low"], found[x]["high"]),
            y_bar=_bar(found[y]["low"], found[y]["high"]),
            seeds=_seeds(found[x], found[y]),
            is_front=is_front,
            role=role,
        )
        for role, label, found, is_front in systems
        if {x, y} <= found.keys() and None not in (found[x]["mean"], found[y]["mean"])
    ]


def _differences(study: StudyFolder, results: dict[str, Any]) -> list[Spot]:
    """The baseline at 0, then all arms that were compared with it."""
    (x, y), over = results["aims"], _over(results)
    spots = [
        Spot(
            label=arm["label"],
            x=arm["versus"][x]["mean"],
            y=arm["versus"][y]["mean"],
            x_bar=_bar(*arm["versus"][x][over]),
            y_bar=_bar(*arm["versus"][y][over]),
            seeds=(),
            is_front=False,
            role=_role(study, name),
        )
        for name, arm in results["arms"].items()
        if {x, y} <= arm["versus"].keys()
    ]
    if study.baseline not in results["arms"]:
        return spots
    label = results["arms"][study.baseline]["label"]
    return [Spot(label, 0.0, 0.0, None, None, (), False, "baseline"), *spots]


def _over(results: dict[str, Any]) -> str:
    """Which intervals differences have: over seeds, unless there are few."""
    fewest = min((len(arm["seeds"]) for arm in results["arms"].values()), default=0)
    return "over_seeds" if fewest >= ENOUGH else "over_subjects"


def _near(spots: Sequence[Spot]) -> tuple[list[Spot], list[Spot]]:
    """Spots that share a scale, and those much further off; the first is where they are from."""
    if len(spots) < 2:
        return list(spots), []
    distances = np.abs([(spot.x, spot.y) for spot in spots])
    limits = FAR * np.median(distances[1:], axis=0)
    inside = np.flatnonzero((distances <= limits).all(axis=1)).tolist()
    near = [spots[index] for index in inside]
    return near, [spot for spot in spots if spot not in near]


def _figure(name: str, x: str, y: str, spots: Sequence[Spot], caption: str) -> Figure:
    alt = f"{x} against {y}. {caption} " + "; ".join(
        f"{spot.label}: {spot.x:.3f}, {spot.y:.3f}" for spot in spots
    )
    return Figure(plots.pareto(name, x, y, spots), caption, alt, wide=True)


def _role(study: StudyFolder, arm: str) -> str:
    return {study.candidate: "candidate", study.baseline: "baseline"}.get(arm, "other")


def _seeds(x: dict[str, Any], y: dict[str, Any]) -> list[tuple[float, float]]:
    return list(zip(x.get("per_seed", []), y.get("per_seed", []), strict=True))


def _bar(low: float | None, high: float | None) -> tuple[float, float] | None:
    return None if low is None or high is None else (low, high)
