"""The results of a study as Markdown: ``results.md``. Nothing is computed here."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from likewise.printable import markdown

Json = dict[str, Any]
NONE = "–"


def results_markdown(results: Json) -> str:
    """All tables, in the order in which they are read; names and texts are shown as they are."""
    results = _escaped(results)
    parts = [
        f"# {results['study']}",
        results["description"],
        _about(results),
        notes(results),
        *_section("Means", _means(results), MEANS),
        *_section(f"Difference to {results['baseline']}", _differences(results), DIFFERENCES),
        *_section("Further differences", _contrasts(results), CONTRASTS),
        *_section("Both aims at once", _both(results), _both_note(results)),
        *[
            part
            for aim in results["aims"]
            for part in _section(f"{aim} by category and complexity", _robustness(results, aim), "")
        ],
        *[
            part
            for aim in results["aims"]
            for part in _section(f"{aim} by kind of prompt", _by_kind(results, aim), "")
        ],
        *_section("By seed", _by_seed(results), BY_SEED),
        *_section("Seeds needed", _power(results), POWER),
        *_section("Cost of an iteration", _overhead(results), OVERHEAD),
    ]
    if results["missing"]:
        parts += ["## Missing", "\n".join(f"- {unit}" for unit in results["missing"])]
    return "\n\n".join(filter(None, parts)) + "\n"


MEANS = (
    "In brackets: 95 % interval by a bootstrap over subjects, of tasks averaged over seeds first."
)
DIFFERENCES = (
    "Paired by task and seed. Intervals are 95 %: over subjects by a bootstrap, over seeds "
    "Student's. p is two-sided, by flipping the signs of whole subjects or of whole seeds; with n "
    "seeds it is never below 2/2ⁿ."
)
CONTRASTS = "Pairs that the study names beside the baseline; paired in the same way."
BOTH = (
    "Area above the untrained model in the plane of {} and {}: 0 where an arm is not better in "
    "both. Front: no other arm is at least as good in both means and better in one."
)
BY_SEED = "Means over images, to the digits that tell whether a run was repeated exactly."
POWER = (
    "Number of seeds that shows a difference to the baseline with a power of 80 % at 5 %, with as "
    "many tasks, from how paired differences spread here: standard deviations of a seed, of a "
    "subject within a seed, and of an image. The baseline stands for arms that are not paired."
)
OVERHEAD = (
    "Median seconds over iterations after the first, then over seeds; in brackets the ratio to the "
    "baseline. Units that ran side by side shared the machine."
)


NO_FRONT = (
    "No front: nothing measured {}. Name held-out evaluators in the recipe (`evaluators`), or the "
    "study's `evaluation.aims`."
)


def _both_note(results: Json) -> str:
    lacking = [aim for aim in results["aims"] if aim not in results["metrics"]]
    if lacking:
        return NO_FRONT.format(" and ".join(lacking))
    return BOTH.format(*results["aims"])


def notes(results: Json) -> str:
    """What the stars on labels mean, and which images have no scores: a line each, or empty."""
    found = [*results.get("trained_on", {}).items(), *results.get("spoilt", {}).items()]
    return "\n\n".join(f"{label}: {said}." for label, said in found)


def _about(results: Json) -> str:
    seeds = ", ".join(map(str, results["seeds"]))
    return (
        f"{results['benchmark']}, {results['tasks']} tasks, protocol {results['protocol']}; "
        f"seeds {seeds}. Baseline: {results['baseline']}. Made by `likewise compare`."
    )


def _means(results: Json) -> list[list[str]]:
    names = results["metrics"]
    rows = [["arm", "seeds", *names]]
    if results["base"]:
        base = results["base"]
        rows.append(["untrained", NONE, *[_estimate(base.get(name)) for name in names]])
    for arm in results["arms"].values():
        cells = [_estimate(arm["metrics"].get(name)) for name in names]
        rows.append([arm["label"], str(len(arm["seeds"])), *cells])
    return rows


def _differences(results: Json) -> list[list[str]]:
    versus = [(arm["label"], arm["versus"]) for arm in results["arms"].values()]
    return _compared(results, "arm", versus)


def _contrasts(results: Json) -> list[list[str]]:
    versus = [(" − ".join(pair["labels"]), pair["versus"]) for pair in results.get("contrasts", [])]
    return _compared(results, "arms", versus)


def _compared(results: Json, title: str, versus: Sequence[tuple[str, Json]]) -> list[list[str]]:
    """A row for each metric and each labelled comparison that has it."""
    rows = [["metric", title, "difference", "over subjects", "p", "over seeds", "p", "seeds"]]
    for name in results["metrics"]:
        for label, compared in versus:
            if (found := compared.get(name)) is not None:
                rows.append(
                    [
                        name,
                        label,
                        f"{found['mean']:+.4f}",
                        _interval(found["over_subjects"], "+.4f"),
                        f"{found['p_subjects']:.4f}",
                        _interval(found["over_seeds"], "+.4f"),
                        f"{found['p_seeds']:.4f}",
                        str(found["n_seeds"]),
                    ]
                )
    return rows


def _both(results: Json) -> list[list[str]]:
    rows = [["arm", "hypervolume × 1000", "per seed", "on the front"]]
    for arm in results["arms"].values():
        area = arm["hypervolume"]
        thousand = {key: _times(area[key], 1000) for key in ("mean", "low", "high")}
        seeds = " ".join(f"{1000 * value:.2f}" for value in area["per_seed"])
        front = "yes" if arm["pareto"] else ""
        rows.append([arm["label"], _estimate(thousand, ".2f"), seeds, front])
    return rows


def _by_seed(results: Json) -> list[list[str]]:
    names = results["metrics"]
    rows = [["arm", "seed", *names]]
    for arm in results["arms"].values():
        for index, seed in enumerate(arm["seeds"]):
            found = [arm["metrics"].get(name, {}).get("per_seed") for name in names]
            cells = [_number(None if one is None else one[index], ".8f") for one in found]
            rows.append([arm["label"], str(seed), *cells])
    return rows


def _power(results: Json) -> list[list[str]]:
    found = results.get("power", [])
    sizes = list(found[0]["needed"]) if found else []
    rows = [["metric", "arm", "seed", "subject", "image", "tasks", *sizes]]
    for one in found:
        spread = [f"{one[name]:.4f}" for name in ("seed", "subject", "image")]
        needed = [NONE if count is None else str(count) for count in one["needed"].values()]
        arm = results["arms"][one["arm"]]["label"]
        rows.append([one["metric"], arm, *spread, str(one["tasks"]), *needed])
    return rows


def _robustness(results: Json, aim: str) -> list[list[str]]:
    return _by_cell(results, aim, "robustness", ("category", "complexity"))


def _by_kind(results: Json, aim: str) -> list[list[str]]:
    return _by_cell(results, aim, "by_kind", ("kind",))


def _by_cell(results: Json, aim: str, table: str, labels: Sequence[str]) -> list[list[str]]:
    """One row per cell with its number of tasks, one column per arm."""
    arms = list(results["arms"].values())
    found: dict[tuple[str, ...], dict[str, str]] = {}
    for arm in arms:
        for cell in arm[table]:
            if aim in cell:
                key = (*(str(cell[label]) for label in labels), str(cell["n"]))
                found.setdefault(key, {})[arm["label"]] = _number(cell[aim]["mean"])
    rows = [[*labels, "n", *(arm["label"] for arm in arms)]]
    rows += [[*key, *(cell.get(arm["label"], NONE) for arm in arms)] for key, cell in found.items()]
    return rows


def _overhead(results: Json) -> list[list[str]]:
    arms = list(results["arms"].values())
    phases = list(dict.fromkeys(phase for arm in arms for phase in arm["overhead"]["seconds"]))
    rows = [["arm", *(f"{phase}, s" for phase in phases), "peak memory, MB"]]
    for arm in arms:
        cost = arm["overhead"]
        cells = [
            _with_ratio(cost["seconds"].get(phase), cost["relative"].get(phase), ".3g")
            for phase in phases
        ]
        memory = _with_ratio(cost["peak_memory_mb"], cost["relative_memory"], ".0f")
        rows.append([arm["label"], *cells, memory])
    return rows


def _section(title: str, rows: Sequence[Sequence[str]], note: str) -> list[str]:
    """Heading, note and table; nothing for a table without rows."""
    if len(rows) < 2:
        return []
    return [f"## {title}", note, _table(rows)]


def _table(rows: Sequence[Sequence[str]]) -> str:
    header, *others = rows
    rule = ["---"] * len(header)
    return "\n".join(_line(row) for row in (header, rule, *others))


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _escaped(value: Any) -> Any:
    """The same, with every text (names are keys too) such that Markdown shows it as it is."""
    if isinstance(value, dict):
        return {_escaped(key): _escaped(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_escaped(inner) for inner in value]
    return markdown(value) if isinstance(value, str) else value


def _estimate(found: Json | None, form: str = ".3f") -> str:
    if found is None or found["mean"] is None:
        return NONE
    interval = _interval([found["low"], found["high"]], form)
    return f"{found['mean']:{form}}" + (f" [{interval}]" if interval != NONE else "")


def _interval(bounds: Sequence[float | None], form: str) -> str:
    low, high = bounds
    return NONE if low is None or high is None else f"{low:{form}} … {high:{form}}"


def _number(value: float | None, form: str = ".3f") -> str:
    return NONE if value is None else f"{value:{form}}"


def _with_ratio(value: float | None, ratio: float | None, form: str) -> str:
    return _number(value, form) + (f" ({ratio:.2f})" if ratio is not None else "")


def _times(value: float | None, factor: float) -> float | None:
    return None if value is None else factor * value
