"""Sections that studies and runs share, each from arms: curves, conflict, steps, environment."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow.compute as pc

from likewise.analysis.conflict import conflicts, having_both, most_conflicted
from likewise.analysis.credit_shares import gradient_norms, linear_credit, pressure
from likewise.analysis.curves import curve
from likewise.report import plots, result_tables
from likewise.report.document import Block, Cell, Code, Figure, Figures, Section, Table, Text
from likewise.report.reading import Arm
from likewise.report.wording import NONE, number, plain, reward_name

WORST_PROMPTS = 10
MAPPED = 3  # conflict maps show the first and the last third of the iterations


def training(arms: Sequence[Arm], clear: Collection[str]) -> Section:
    """A curve per reward and evaluator; arms that are not `clear` are faint."""
    rewards = {
        name: reward_name(name, name in recipe.credited)
        for recipe in (arm.runs[0].recipe for arm in arms)
        for name in recipe.rewards
    }
    wanted = evaluator_curves(arms)
    wanted |= {f"eval/{name}": f"{said}, evaluation" for name, said in rewards.items()}
    wanted |= {f"reward/{name}/mean": f"{said}, training" for name, said in rewards.items()}
    figures = []
    for number_, (metric, label) in enumerate(wanted.items()):
        lines = [
            plots.Line(arm.label, found, arm.name not in clear)
            for arm in arms
            if (found := curve(arm.metrics, metric)).iterations
        ]
        if lines:
            svg = plots.curves(f"curve{number_}", label, lines)
            ends = [f"{line.label} {line.curve.mean[-1]:.3f}" for line in lines if not line.faint]
            alt = f"{label} over iterations. At the end: {', '.join(ends)}."
            figures.append(Figure(svg, label, alt))
    several = max(len(arm.runs) for arm in arms) > 1
    note = "Bands: 95 % interval of the mean over seeds. " if several else ""
    intro = (
        f"{note}Evaluations draw fixed tasks about subjects that training never shows; training "
        "curves are means over the images of each iteration, whose tasks change."
    )
    blocks: list[Block] = [Text(intro), Figures(figures)]
    return Section("training", "Training", blocks if figures else [Text("No metrics yet.")])


def evaluator_curves(arms: Sequence[Arm]) -> dict[str, str]:
    """Metric of a run → what it is called, for each held-out evaluator of any arm."""
    names = {name: None for arm in arms for name in arm.runs[0].recipe.evaluator_names}
    return {f"eval/evaluator/{name}": plain(f"evaluator/{name}") for name in names}


def conflict(arms: Sequence[Arm]) -> Section:
    """How two rewards disagree over training, in each of a few arms."""
    able = [arm for arm in arms if len(arm.sides()) == 2 and arm.rewards.num_rows]
    if not able:
        said = "Nothing to show: no run has reward tables with a prompt and an identity reward."
        return Section("conflict", "Conflict of the rewards", [Text(said)])
    blocks: list[Block] = [
        Text(
            "A reward’s z is its distance from the mean of its group (images of one prompt), in "
            "standard deviations. Rewards conflict where one z is positive and the other negative."
        ),
        Figures([_correlation(able), *[_quadrants(n, arm) for n, arm in enumerate(able)]]),
        Text(f"Where images lie, in the first and in the last 1/{MAPPED} of the iterations:"),
        Figures([one for n, arm in enumerate(able) for one in _maps(n, arm)], pairs=True),
        _by_kind(able),
        _worst(able[0]),
    ]
    return Section("conflict", "Conflict of the rewards", blocks)


def steps(
    arms: Sequence[Arm], attribution: Mapping[str, Any] | None, compared: Sequence[Arm]
) -> Section:
    """What pushes at each step, what credit is made of, and which step decides what.

    Args:
        compared: Arms whose credit is analysed.
    """
    figures = [figure for n, arm in enumerate(arms) if (figure := _pressure(n, arm)) is not None]
    blocks: list[Block] = [
        Text(
            "How hard each trained step is pushed: mean |w·z| of each reward, and the mean size "
            "of the whole advantage, over all images that trained there."
        ),
        Figures(figures),
    ]
    if not figures:
        blocks = [Text("No reward tables yet, so nothing is known of the pressure per step.")]
    blocks += [_gradients(arms), _linear(compared)] if figures else []
    return Section("steps", "What happens at each step", [*blocks, *_attributed(arms, attribution)])


def environment(facts: Mapping[str, Any], commands: Sequence[str], recipes: str = "") -> Section:
    """How to get the same numbers again."""
    blocks: list[Block] = []
    if commands:
        blocks += [Text("Commands:"), Code("\n".join(commands[:4]))]
        if commands[4:]:
            blocks.append(Code("\n".join(commands), f"all {len(commands)} commands"))
    if recipes:
        blocks.append(Code(recipes, "recipe, with every default; of absolute paths the last part"))
    blocks.append(result_tables.facts_table("Environment", facts))
    return Section("environment", "Commands and environment", blocks)


def _correlation(arms: Sequence[Arm]) -> Figure:
    lines = [plots.Line(arm.label, curve(arm.metrics, "correlation")) for arm in arms]
    svg = plots.curves("correlation", "correlation of the two z", lines)
    return Figure(svg, "Correlation: below 0 the rewards disagree", "correlation of the rewards’ z "
                  "over iterations, one line per arm")  # fmt: skip


def _quadrants(number_: int, arm: Arm) -> Figure:
    found = {sign: curve(arm.metrics, f"quadrant/{sign}") for sign in ("++", "+-", "-+", "--")}
    iterations = found["++"].iterations
    svg = plots.quadrants(
        f"quadrants{number_}", iterations, {sign: one.mean for sign, one in found.items()}
    )
    return Figure(svg, f"{arm.label}: who agrees", f"{arm.label}: shares of images by sign of "
                  "both z, stacked, over iterations")  # fmt: skip


def _maps(number_: int, arm: Arm) -> list[Figure]:
    sides, table = arm.sides(), arm.rewards
    table = having_both(table.filter(table["complete"]), sides["prompt"], sides["identity"])
    last = pc.max(table["iteration"]).as_py()
    spans = {"early": (1, last // MAPPED), "late": (last - last // MAPPED + 1, last)}
    figures = []
    for when, (start, end) in spans.items():
        inside = pc.and_(
            pc.greater_equal(table["iteration"], start), pc.less_equal(table["iteration"], end)
        )
        some = table.filter(inside)
        if some.num_rows:
            z = [some[f"z/{sides[side]}"].to_numpy() for side in ("prompt", "identity")]
            opposed = 100 * float(np.mean(z[0] * z[1] < 0))
            title = f"{arm.label}, {when}: iterations {start}–{end}"
            alt = f"{title}: {opposed:.0f} % of {some.num_rows} images have z of opposite signs"
            svg = plots.conflict_map(f"map{number_}{when}", *z)
            figures.append(Figure(svg, f"{title}; {opposed:.0f} % in conflict", alt))
    return figures


def _by_kind(arms: Sequence[Arm]) -> Table:
    rows = []
    for arm in arms:
        sides = arm.sides()
        found = conflicts(arm.rewards, sides["prompt"], sides["identity"], "kind")
        for kind, one in sorted(found.items(), key=lambda item: str(item[0])):
            rows.append([
                Cell(arm.label), Cell(str(kind)), Cell(number(one.correlation, "+.2f"),
                order=one.correlation), _percent(one.opposed), Cell(str(one.n), order=one.n),
            ])  # fmt: skip
    header = ["arm", "kind of prompt", "correlation", "in conflict", "images"]
    return Table("Conflict by kind of prompt", header, rows, sortable=True)


def _worst(arm: Arm) -> Table:
    sides = arm.sides()
    found = most_conflicted(conflicts(arm.rewards, sides["prompt"], sides["identity"], "prompt"))[
        :WORST_PROMPTS
    ]
    rows = [
        [
            Cell(str(prompt)),
            Cell(number(one.correlation, "+.2f"), order=one.correlation),
            _percent(one.opposed),
            *[_percent(one.quadrants[sign]) for sign in ("++", "+-", "-+", "--")],
            Cell(str(one.n), order=one.n),
        ]
        for prompt, one in found
    ]
    header = ["prompt", "correlation", "in conflict", "both better", "prompt better, subject worse",
              "subject better, prompt worse", "both worse", "images"]  # fmt: skip
    return Table(
        f"Most conflicted prompts in training, {arm.label}",
        header,
        rows,
        "Most prompts came up once: with one group of images a correlation is as noisy as that.",
        sortable=True,
    )


def _pressure(number_: int, arm: Arm) -> Figure | None:
    """Pressure by step in the arm's first run: another run may train other steps."""
    names = list(arm.runs[0].recipe.credited)
    found = pressure(arm.runs[0].read_rewards(), arm.metrics[0], names)
    if not found:
        return None
    svg = plots.pressure(f"pressure{number_}", found, names)
    title = arm.label if len(arm.runs) == 1 else f"{arm.label}, seed {arm.seeds[0]}"
    alt = "; ".join(f"step {step}: |A| {one.advantage:.2f}" for step, one in found.items())
    return Figure(svg, title, f"{title}, mean pressure by step. {alt}")


def _gradients(arms: Sequence[Arm]) -> Table:
    found = [gradient_norms([row for run in arm.metrics for row in run]) for arm in arms]
    trained = sorted({steps for norms in found for steps in norms})
    rows = [
        [Cell(arm.label), *(Cell(number(norms.get(steps), ".2e")) for steps in trained)]
        for arm, norms in zip(arms, found, strict=True)
    ]
    return Table(
        "How strong the gradient is",
        ["arm", *(f"steps {', '.join(map(str, steps))}" for steps in trained)],
        rows,
        "Median norm over updates, by the steps that they trained. Adam scales by what is typical: "
        "steps with small gradients teach little beside those with large ones.",
    )


def _linear(arms: Sequence[Arm]) -> Table:
    rows = []
    for arm in arms:
        sides = arm.sides()
        names = [sides[side] for side in ("prompt", "identity") if side in sides]
        found = linear_credit(arm.rewards, names)
        slopes = [found.slopes.get(sides.get(side, "")) for side in ("prompt", "identity")]
        cells = [Cell(number(slope, "+.2f"), order=slope) for slope in slopes]
        share = NONE if found.share is None else f"{100 * found.share:.1f} %"
        rows.append([Cell(arm.label), *cells, Cell(share, order=found.share)])
    return Table(
        "What credit is made of",
        ["arm", "slope of the prompt’s z", "slope of the identity’s z", "explained by the two"],
        rows,
        "Advantages as straight lines in both z, step by step, slopes averaged over steps. What a "
        "line explains is a weighted sum; the rest is what an arm adds to one. The optimiser takes "
        "no notice of a common factor of both slopes.",
        sortable=True,
    )


def _attributed(arms: Sequence[Arm], found: Mapping[str, Any] | None) -> list[Block]:
    if found is None:
        return [Text("Which step decides what has not been measured: likewise attribute does it.")]
    sides = arms[0].sides()
    figures, peaks = [], []
    for side in ("prompt", "identity"):
        names = [f"reward/{sides[side]}" if side in sides else "", f"evaluator/{side}"]
        scorers = {
            plain(name): found["scorers"][name] for name in names if name in found["scorers"]
        }
        weights = _weights(arms[0], sides.get(side, ""))
        if scorers:
            label = f"weight of the {side} reward ({arms[0].label})"
            svg = plots.attribution(f"attribution-{side}", scorers, weights, label)
            tops = [
                f"{name} at step {int(np.argmax(one['share']))}" for name, one in scorers.items()
            ]
            peaks += tops
            alt = f"Share of variance by step; largest: {', '.join(tops)}"
            figures.append(Figure(svg, f"What decides the {side} side", alt))
    said = (
        "Measured premise of time-aware weights: the share of each final score’s variance that is "
        f"due to the noise of each step, from {found['tasks']} tasks with all stochastic steps "
        "random; bars are 95 % intervals. Squares: the weight that training gave this side there. "
        f"Largest shares: {', '.join(peaks) or NONE}."
    )
    return [Text(said), Figures(figures)]


def _weights(arm: Arm, reward: str) -> dict[int, float]:
    """Step → weight of a reward, as its first run recorded it."""
    start = f"weight/{reward}/step_"
    return {
        int(key.removeprefix(start)): value
        for row in arm.metrics[0]
        for key, value in row.items()
        if key.startswith(start)
    }


def _percent(share: float) -> Cell:
    return Cell(f"{100 * share:.0f} %", order=share)
