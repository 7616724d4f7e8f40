"""Write a study's report: numbers, votes and a page."""

from __future__ import annotations

import csv
import io
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from likewise.people.ballots import judge_raters, read_ballots
from likewise.people.files import PeopleStudy
from likewise.people.findings import summarise
from likewise.people.page import people_page
from likewise.records.atomic import write_atomically

RESULTS, TABLE, PAGE = "results.json", "votes.csv", "report.html"
COLUMNS = (
    "rater", "counted", "question", "pair", "check", "task", "subject", "category", "kind",
    "complexity", "first", "second", "outcome", "side", "seconds", "cast_at",
)  # fmt: skip


def write_people_report(study: PeopleStudy, out: Path) -> dict[str, Any]:
    """Write ``results.json``, ``votes.csv`` and ``report.html`` into `out`; the numbers."""
    found = summarise(study)
    out.mkdir(parents=True, exist_ok=True)
    write_atomically(out / RESULTS, json.dumps(found, indent=2, ensure_ascii=False) + "\n")
    write_atomically(out / TABLE, _votes_csv(study))
    write_atomically(out / PAGE, people_page(study, found))
    return found


def _votes_csv(study: PeopleStudy) -> str:
    """Votes as they were cast; `outcome` is 1 where the system `first` won, 0.5 for a tie."""
    ballots, _ = read_ballots(study)
    raters = judge_raters(ballots, study.pairs, study.settings.least_checks)
    counted = {rater.code: rater.counted for rater in raters}
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(COLUMNS)
    for one in ballots:
        pair = study.pairs[one.pair]
        when = datetime.fromtimestamp(one.cast_at, UTC).isoformat(timespec="seconds")
        table.writerow([
            one.rater, int(counted[one.rater]), one.question, one.pair, pair.check or "",
            *map(_plain, (pair.task, pair.subject, pair.category, pair.kind)), pair.complexity,
            _plain(pair.first.system), _plain(pair.second.system), one.outcome, one.side,
            "" if one.seconds is None else f"{one.seconds:.2f}", when,
        ])  # fmt: skip
    return text.getvalue()


def _plain(text: str) -> str:
    """Text that no spreadsheet takes for a formula."""
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text
