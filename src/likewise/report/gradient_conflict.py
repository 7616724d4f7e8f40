"""Whether the gradients of prompt and identity conflict, where a run has measured it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from likewise.analysis.curves import curve
from likewise.report import plots
from likewise.report.document import Block, Figure, Figures, Section, Text
from likewise.report.reading import Arm
from likewise.report.wording import count, number

COSINE = "gradient/cosine"
STEP = f"{COSINE}/step_"


def gradient_conflict(arms: Sequence[Arm]) -> list[Section]:
    """One section, or none where no run has measured it.

    Arms are runs here, of which each has one.
    """
    measured = [arm for arm in arms if _cosines(arm)]
    if not measured:
        return []
    lines = [plots.Line(arm.label, curve(arm.metrics, COSINE)) for arm in measured]
    svg = plots.curves("gradient-cosine", "cosine of the two gradients", lines)
    caption = "Cosine over training: below 0 the rewards pull against each other"
    figures = [Figure(svg, caption, "; ".join(map(_said, measured)))]
    by_step = {arm.label: found for arm in measured if (found := cosines_by_step(arm.metrics[0]))}
    if by_step:
        svg = plots.cosines("gradient-cosine-steps", by_step)
        alt = "; ".join(
            f"{label}: " + ", ".join(f"step {t} {number(c, '+.2f')}" for t, c in found.items())
            for label, found in by_step.items()
        )
        figures.append(Figure(svg, "Where in the denoising: mean cosine at each step", alt))
    blocks: list[Block] = [
        Text(
            "Rewards that disagree about images need not pull the weights apart. The cosine of the "
            "prompt’s and the identity’s gradient says whether they do: below 0, a step for one is "
            "a step against the other; near 0, they hardly meet."
        ),
        *[Text(_said(arm)) for arm in measured],
        Figures(figures),
    ]
    return [Section("gradients", "Do the gradients conflict?", blocks)]


def cosines_by_step(rows: Sequence[Mapping[str, Any]]) -> dict[int, float]:
    """Mean over measured iterations at each step, in the order of steps."""
    found: dict[int, list[float]] = {}
    for row in rows:
        for key, value in row.items():
            if key.startswith(STEP) and value is not None:
                found.setdefault(int(key.removeprefix(STEP)), []).append(value)
    return {step: fmean(found[step]) for step in sorted(found)}


def _cosines(arm: Arm) -> list[float]:
    return [row[COSINE] for row in arm.metrics[0] if row.get(COSINE) is not None]


def _said(arm: Arm) -> str:
    """How often they conflict, and at which step most."""
    values, steps = _cosines(arm), cosines_by_step(arm.metrics[0])
    opposed = sum(value < 0 for value in values)
    said = (
        f"{arm.label}: opposed in {opposed} of {count(len(values), 'measured iteration')}, mean "
        f"cosine {number(fmean(values), '+.2f')}"
    )
    if not steps:
        return f"{said}."
    low, high = min(steps, key=steps.__getitem__), max(steps, key=steps.__getitem__)
    return (
        f"{said}; by step from {number(steps[low], '+.2f')} (step {low}) to "
        f"{number(steps[high], '+.2f')} (step {high})."
    )
