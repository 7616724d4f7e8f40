"""Every vote as a row of a CSV file."""

from __future__ import annotations

import csv
import io
from datetime import UTC, datetime

from likewise.people.ballots import judge_raters, read_ballots
from likewise.people.files import PeopleStudy

COLUMNS = (
    "rater", "counted", "question", "pair", "check", "task", "subject", "category", "kind",
    "complexity", "first", "second", "outcome", "side", "seconds", "cast_at",
)  # fmt: skip


def votes_csv(study: PeopleStudy) -> str:
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
