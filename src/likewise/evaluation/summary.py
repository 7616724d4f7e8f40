"""Scores of systems → one number per system and metric, by the protocol, with its interval."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from likewise.analysis.intervals import Estimate
from likewise.analysis.spoilt_counts import count_spoilt
from likewise.evaluation.benchmark_protocols import (
    average,
    find_protocol,
    metric_values,
    metrics_of,
    protocol_mean,
)
from likewise.evaluation.settings import OF_DRAWING, Settings
from likewise.records.atomic import write_atomically

if TYPE_CHECKING:
    import pyarrow as pa

SUMMARY = "summary.json"
BEFORE, AFTER = "before", "after"  # the systems of a run
UNKNOWN = "–"


class MixedProtocolsError(ValueError):
    """Numbers that must not share a table; the message names both sides."""


@dataclass(frozen=True)
class Summary:
    """What may stand in one table: systems measured on one benchmark, by one protocol.

    Attributes:
        settings: Of the evaluation.
        systems: System → metric → estimate.
        change: Metric → estimate of after − before, paired by task and number (and photo); empty
            without both.
        trained_on: System → which of the benchmark's subjects it was trained on, in words; without
            those that were trained on none. Tables mark these systems.
        spoilt: System → reason → number of its images that are missing in all scores (flat, not
            finite); without systems that have none.
    """

    settings: Settings
    systems: Mapping[str, Mapping[str, Estimate]]
    change: Mapping[str, Estimate] = field(default_factory=dict)
    trained_on: Mapping[str, str] = field(default_factory=dict)
    spoilt: Mapping[str, Mapping[str, int]] = field(default_factory=dict)


def summarise(
    tables: Mapping[str, pa.Table], settings: Settings, trained_on: Mapping[str, str] | None = None
) -> Summary:
    """The summary of an evaluation.

    Args:
        tables: System → its scores; `before` and `after` are compared with each other.
        trained_on: As in the summary.

    Raises:
        ValueError: `settings.protocol` is unknown.
    """
    protocol = find_protocol(settings.protocol)
    systems = {
        name: {
            metric: protocol_mean(table, protocol, metric) for metric in metrics_of(table, protocol)
        }
        for name, table in tables.items()
    }
    change = {}
    if BEFORE in tables and AFTER in tables:
        for metric in (metric for metric in systems[AFTER] if metric in systems[BEFORE]):
            after = metric_values(tables[AFTER], protocol, metric)
            before = metric_values(tables[BEFORE], protocol, metric)
            change[metric] = average(after.minus(before), protocol)
    spoilt = {name: count_spoilt(table) for name, table in tables.items()}
    spoilt = {name: counts for name, counts in spoilt.items() if counts}
    return Summary(settings, systems, change, trained_on or {}, spoilt)


def table_rows(summary: Summary) -> list[tuple[str, ...]]:
    """A header, then a row per metric, as text; "–" where nothing is known.

    For a run ``metric, before, after, change, 95 % interval``, else a column per system with its
    interval: "0.774 (0.750 … 0.798)".
    """
    if set(summary.systems) != {BEFORE, AFTER}:
        return _columns(summary.systems)
    rows: list[tuple[str, ...]] = [("metric", BEFORE, AFTER, "change", "95 % interval")]
    for metric in _metrics(summary.systems):
        means = [_mean(summary.systems[system].get(metric)) for system in (BEFORE, AFTER)]
        change = summary.change.get(metric)
        rows.append((metric, *means, _mean(change, "+z.3f"), _interval(change, "+z.3f")))
    return rows


def side_by_side(summaries: Mapping[str, Summary]) -> list[tuple[str, ...]]:
    """As `table_rows` of several evaluations, their systems called ``<name>/<system>``.

    Raises:
        MixedProtocolsError: they differ in benchmark, number of tasks, protocol, or in the encoder
            of a metric.
    """
    seen: dict[str, tuple[str, object]] = {}
    for name, summary in summaries.items():
        for fact, value in summary.settings.facts().items():
            first, known = seen.setdefault(fact, (name, value))
            if known != value and fact not in OF_DRAWING:
                raise MixedProtocolsError(
                    f"{first} and {name} must not share a table: "
                    f"{fact} is {known} in {first}, {value} in {name}"
                )
    return _columns(
        {
            f"{name}/{system}": metrics
            for name, summary in summaries.items()
            for system, metrics in summary.systems.items()
        }
    )


def write_summary(folder: Path, summary: Summary) -> None:
    """Write ``summary.json`` into `folder`."""
    write_atomically(folder / SUMMARY, json.dumps(asdict(summary), indent=2) + "\n")


def read_summary(folder: Path) -> Summary:
    """What `write_summary` wrote.

    Raises:
        ValueError: there is no summary.json, or it is damaged.
    """
    file = folder / SUMMARY
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        systems = {system: _estimates(metrics) for system, metrics in found["systems"].items()}
        change, trained_on = _estimates(found["change"]), dict(found.get("trained_on", {}))
        spoilt = {name: dict(counts) for name, counts in found.get("spoilt", {}).items()}
        return Summary(Settings(**found["settings"]), systems, change, trained_on, spoilt)
    except FileNotFoundError:
        raise ValueError(f"{folder} is not a finished evaluation: it has no {SUMMARY}") from None
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"{file} is damaged: {error!r}") from error


def _estimates(found: Mapping[str, Mapping[str, Any]]) -> dict[str, Estimate]:
    return {metric: Estimate(**estimate) for metric, estimate in found.items()}


def _columns(systems: Mapping[str, Mapping[str, Estimate]]) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = [("metric", *systems)]
    for metric in _metrics(systems):
        found = [metrics.get(metric) for metrics in systems.values()]
        rows.append((metric, *(_with_interval(estimate) for estimate in found)))
    return rows


def _metrics(systems: Mapping[str, Mapping[str, Estimate]]) -> list[str]:
    """Metrics that any of the systems has, in order."""
    return list({metric: None for metrics in systems.values() for metric in metrics})


def _mean(estimate: Estimate | None, style: str = "z.3f") -> str:
    if estimate is None or estimate.mean is None:
        return UNKNOWN
    return f"{estimate.mean:{style}}"


def _interval(estimate: Estimate | None, style: str = "z.3f") -> str:
    if estimate is None or estimate.low is None or estimate.high is None:
        return UNKNOWN
    return f"{estimate.low:{style}} … {estimate.high:{style}}"


def _with_interval(estimate: Estimate | None) -> str:
    interval = _interval(estimate)
    return _mean(estimate) if interval == UNKNOWN else f"{_mean(estimate)} ({interval})"
