"""Tables from ``results.json``; nothing is computed here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from likewise.analysis.overhead import Cost
from likewise.report.document import Cell, Table
from likewise.report.wording import NONE, interval, number, p_value, plain

Json = Mapping[str, Any]
SHOWN_ENDS = ("/held-out", "/copy-index", "/diversity")
UNRANKED = ("/copy-index",)  # more is neither better nor worse


def arms_table(results: Json) -> Table:
    """Means of the untrained model and of every arm, and hypervolumes."""
    metrics = shown_metrics(results)
    rows: list[tuple[str, Json, Json | None, int | None]] = []
    if results["base"]:
        rows.append(("untrained model", results["base"], None, None))
    rows += [
        (arm["label"], arm["metrics"], arm["hypervolume"], len(arm["seeds"]))
        for arm in results["arms"].values()
    ]
    best = {
        metric: max(
            (row[1][metric]["mean"] for row in rows if _known(row[1], metric)), default=None
        )
        for metric in metrics
        if not metric.endswith(UNRANKED)
    }
    areas = [row[2]["mean"] for row in rows if row[2] and row[2]["mean"] is not None]
    body = [
        [
            Cell(label),
            Cell(NONE if seeds is None else str(seeds), order=seeds),
            *[_estimate(found.get(metric), best.get(metric)) for metric in metrics],
            _estimate(area and _times(area, 1000), 1000 * max(areas) if areas else None, ".2f"),
        ]
        for label, found, area, seeds in rows
    ]
    return Table(
        "Means",
        ["arm", "seeds", *map(plain, metrics), "hypervolume × 1000"],
        body,
        "Small: 95 % interval by a bootstrap over subjects, of tasks averaged over seeds; of the "
        "hypervolume Student’s over seeds. ★ marks a column’s highest mean, which need not differ "
        "from the next. Hypervolume: area above the untrained model in the plane of both "
        "evaluators. Copy index: how much nearer to the reference than to held-out photos of the "
        "subject.",
        sortable=True,
    )


def differences_table(results: Json) -> Table:
    """Paired differences to the baseline on both aims."""
    baseline = results["arms"].get(results["baseline"], {"label": results["baseline"]})["label"]
    versus = [(arm["label"], arm["versus"]) for arm in results["arms"].values()]
    return _compared(
        results,
        f"Difference to {baseline}",
        "arm",
        versus,
        "Paired by task and seed. 95 % intervals: over subjects by a bootstrap, over seeds "
        "Student’s. p: two-sided, by flipping the signs of whole subjects or of whole seeds; with "
        "n seeds it is never below 2/2ⁿ, so never below 0.062 with five. Not corrected for the "
        "number of arms.",
    )


def contrasts_table(results: Json) -> Table:
    """The same of the pairs that the study names beside the baseline."""
    versus = [(" − ".join(pair["labels"]), pair["versus"]) for pair in results.get("contrasts", [])]
    note = "Pairs that the study names beside the baseline: the first minus the second."
    return _compared(results, "Further differences", "arms", versus, note)


def _compared(
    results: Json, title: str, column: str, versus: Sequence[tuple[str, Json]], note: str
) -> Table:
    """A row for each labelled comparison that has one of the aims."""
    aims = results["aims"]
    header = [column]
    for aim in aims:
        header += [plain(aim), "over subjects", "over seeds"]
    rows = [
        [Cell(label), *(cell for aim in aims for cell in _difference(compared.get(aim)))]
        for label, compared in versus
        if any(aim in compared for aim in aims)
    ]
    return Table(title, header, rows, note, sortable=True)


def robustness_table(results: Json, arms: Sequence[str], key: str, labels: Sequence[str]) -> Table:
    """Both aims by category and complexity, or by kind, of some arms beside each other."""
    found = {arm: results["arms"][arm] for arm in arms}
    columns = [(aim, arm) for aim in results["aims"] for arm in arms]
    cells: dict[tuple[str, ...], dict[tuple[str, str], Any]] = {}
    counts: dict[tuple[str, ...], int] = {}
    for arm, numbers in found.items():
        for cell in numbers[key]:
            values = tuple(str(cell[label]) for label in labels)
            counts.setdefault(values, cell["n"])
            for aim in results["aims"]:
                cells.setdefault(values, {})[aim, arm] = cell.get(aim)
    rows = [
        [
            *map(Cell, values),
            Cell(str(counts[values]), order=counts[values]),
            *[_estimate(row.get(column), None, ".2f") for column in columns],
        ]
        for values, row in cells.items()
    ]
    header = [f"{plain(aim)}: {found[arm]['label']}" for aim, arm in columns]
    return Table(
        f"By {' and '.join(labels)}",
        [*labels, "tasks", *header],
        rows,
        "Small: 95 % interval over subjects; none where one subject is all there is.",
        sortable=True,
    )


def overhead_table(results: Json) -> Table:
    """Seconds and memory of each arm, and what of the baseline's that is."""
    arms = {name: arm for name, arm in results["arms"].items() if arm.get("overhead")}
    costs = [arm["overhead"] for arm in arms.values()]
    phases = list(dict.fromkeys(phase for cost in costs for phase in cost["seconds"]))
    rows = [
        [
            Cell(arm["label"]),
            *[_cost(cost["seconds"].get(phase), cost["relative"].get(phase)) for phase in phases],
            _cost(cost["peak_memory_mb"], cost["relative_memory"], ".0f"),
        ]
        for arm, cost in zip(arms.values(), costs, strict=True)
    ]
    return Table(
        "Cost of an iteration",
        ["arm", *(f"{phase}, s" for phase in phases), "peak memory, MB"],
        rows,
        f"Medians over iterations after the first, then over seeds. Small: ratio to "
        f"{results['baseline']}. Runs that shared the machine slowed each other.",
        sortable=True,
    )


def costs_table(costs: Mapping[str, Cost]) -> Table:
    """As `overhead_table`, for runs that are compared with nothing."""
    phases = list(dict.fromkeys(phase for cost in costs.values() for phase in cost.seconds))
    rows = [
        [
            Cell(label),
            *[_cost(cost.seconds.get(phase), None) for phase in phases],
            _cost(cost.peak_memory_mb, None, ".0f"),
        ]
        for label, cost in costs.items()
    ]
    header = ["run", *(f"{phase}, s" for phase in phases), "peak memory, MB"]
    return Table("Cost of an iteration", header, rows, "Medians over iterations after the first.")


def facts_table(caption: str, facts: Json) -> Table:
    """Name → value, nested ones by dotted names."""
    rows = [[Cell(name), Cell(value)] for name, value in _flat(facts, "")]
    return Table(caption, ["what", "value"], rows)


def shown_metrics(results: Json) -> list[str]:
    """Aims, rewards, and of each metric what a table has room for."""
    aims = [name for name in results["aims"] if name in results["metrics"]]
    rest = [name for name in results["metrics"] if name not in aims]
    rewards = [name for name in rest if name.startswith("reward/")]
    return aims + rewards + [name for name in rest if name.endswith(SHOWN_ENDS)]


def _estimate(found: Json | None, best: float | None, form: str = ".3f") -> Cell:
    if not found or found["mean"] is None:
        return Cell(NONE)
    bounds = interval([found["low"], found["high"]], form)
    return Cell(
        number(found["mean"], form),
        "" if bounds == NONE else bounds,
        found["mean"],
        best is not None and found["mean"] == best,
    )


def _difference(versus: Json | None) -> list[Cell]:
    if versus is None:
        return [Cell(NONE)] * 3
    return [
        Cell(number(versus["mean"], "+.4f"), order=versus["mean"]),
        Cell(interval(versus["over_subjects"], "+.4f"), p_value(versus["p_subjects"]),
             versus["p_subjects"]),
        Cell(interval(versus["over_seeds"], "+.4f"), p_value(versus["p_seeds"]),
             versus["p_seeds"]),
    ]  # fmt: skip


def _cost(value: float | None, ratio: float | None, form: str = ".3g") -> Cell:
    return Cell(number(value, form), "" if ratio is None else f"× {ratio:.2f}", value)


def _known(metrics: Json, metric: str) -> bool:
    return metric in metrics and metrics[metric]["mean"] is not None


def _times(found: Json, factor: float) -> Json:
    keys = ("mean", "low", "high")
    return {key: None if found[key] is None else factor * found[key] for key in keys}


def _flat(facts: Json, above: str) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for name, value in facts.items():
        if isinstance(value, Mapping):
            found += _flat(value, f"{above}{name}.")
        else:
            found.append((f"{above}{name}", NONE if value is None else str(value)))
    return found
