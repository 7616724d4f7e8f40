"""Tables of evaluations: one on its own, or several beside each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.table import Table

from likewise.analysis.intervals import Estimate
from likewise.analysis.spoilt_counts import in_words
from likewise.evaluation.summary import UNKNOWN, Summary, side_by_side, table_rows
from likewise.terminal import shown

EXPLAINED = {
    "evaluator/identity": "same subject (evaluator)",
    "evaluator/prompt": "prompt followed (evaluator)",
}
MARK = "*"  # on systems that were trained on subjects of the benchmark
FIRST = ("reward/", "evaluator/")  # rows at the top; metrics follow below a line


def table(summary: Summary) -> Table:
    """Rewards and evaluators, if any, then metrics; rows without a value are left out."""
    header, *rows = table_rows(summary)
    result = _headed(summary, [_marked(summary, column) for column in header])
    result.caption = _notes({"": summary})
    for first in (True, False):
        for metric, *cells in rows:
            if metric.startswith(FIRST) == first and set(cells) != {UNKNOWN}:
                if metric in summary.change:
                    column = header.index("change") - 1
                    cells[column] = f"[{_colour(summary.change[metric])}]{cells[column]}[/]"
                result.add_row(shown(_explained(metric)), *cells)
        result.add_section()
    return result


def joint_table(summaries: Mapping[str, Summary]) -> Table:
    """Several evaluations, a column per system; folders are numbered, as their names may be long.

    Raises:
        MixedProtocolsError: their numbers must not share a table (the message says why).
    """
    (metric, *systems), *rows = side_by_side(summaries)
    numbers = {folder: str(number) for number, folder in enumerate(summaries, 1)}
    short = [
        f"{numbers[folder]}/{_marked(summaries[folder], system)}"
        for folder, _, system in (s.rpartition("/") for s in systems)
    ]
    result = _headed(next(iter(summaries.values())), [metric, *short])
    lines = [f"{number}: {shown(folder)}" for folder, number in numbers.items()]
    seen = _notes({f"{numbers[folder]}/": one for folder, one in summaries.items()})
    result.caption = "\n".join([*lines, seen] if seen else lines)
    for metric, *cells in rows:
        result.add_row(shown(_explained(metric)), *cells)
    return result


def _marked(summary: Summary, system: str) -> str:
    """A system's name, with a star if it was trained on subjects of the benchmark."""
    return system + MARK if system in summary.trained_on else system


def _notes(summaries: Mapping[str, Summary]) -> str | None:
    """What the stars mean, and which images have no scores: a line per system.

    Keys are prefixes of systems' names.
    """
    lines = []
    for prefix, summary in summaries.items():
        seen, spoilt = summary.trained_on.items(), summary.spoilt.items()
        lines += [f"{MARK} {prefix}{system}: {said}" for system, said in seen]
        lines += [f"{prefix}{system}: {in_words(counts)}" for system, counts in spoilt]
    return "\n".join(map(shown, lines)) or None


def _headed(summary: Summary, header: Sequence[str]) -> Table:
    settings = summary.settings
    title = f"{settings.benchmark}, {settings.tasks} tasks, protocol {settings.protocol}"
    result = Table(title=shown(title))
    for column in header:
        result.add_column(shown(column), justify="left" if column == header[0] else "right")
    return result


def _explained(metric: str) -> str:
    kind, _, name = metric.partition("/")
    if metric in EXPLAINED or kind not in ("reward", "evaluator"):
        return EXPLAINED.get(metric, metric)
    return f"{name} ({kind})" if kind == "evaluator" else f"{name} reward"


def _colour(change: Estimate) -> str:
    if change.low is None or change.high is None:
        return "default"
    return "green" if change.low > 0 else "red" if change.high < 0 else "yellow"
