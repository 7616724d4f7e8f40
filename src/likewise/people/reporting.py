"""Write a study's report: numbers, votes and a page."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from likewise.people.csv_file import votes_csv
from likewise.people.files import PeopleStudy
from likewise.people.page import people_page
from likewise.people.summary import summarise
from likewise.records.atomic import write_atomically

RESULTS, TABLE, PAGE = "results.json", "votes.csv", "report.html"


def write_people_report(study: PeopleStudy, out: Path) -> dict[str, Any]:
    """Write ``results.json``, ``votes.csv`` and ``report.html`` into `out`; the numbers."""
    found = summarise(study)
    out.mkdir(parents=True, exist_ok=True)
    write_atomically(out / RESULTS, json.dumps(found, indent=2, ensure_ascii=False) + "\n")
    write_atomically(out / TABLE, votes_csv(study))
    write_atomically(out / PAGE, people_page(study, found))
    return found
