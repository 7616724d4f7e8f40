"""How long units took: one line per launch, so that the time left can be estimated."""

from __future__ import annotations

import json
from statistics import median
from typing import Any

from likewise.records import RunDirectory
from likewise.records.atomic import naming
from likewise.study.units import Plan, Unit


class Journal:
    """``logs/units.jsonl`` of a study. A line torn by a crash is ignored."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.file = plan.folder / "logs" / "units.jsonl"

    def add(self, unit: Unit, seconds: float, code: int, resumed: bool) -> None:
        """A launch that has ended with this exit code."""
        line = {"unit": str(unit), "kind": unit.kind, "seconds": round(seconds, 1), "code": code}
        text = json.dumps({**line, "resumed": resumed})
        with naming(self.file), self.file.open("a", encoding="utf-8") as file:
            file.write(f"{text}\n")

    def read(self) -> list[dict[str, Any]]:
        lines = self.file.read_text(encoding="utf-8").splitlines() if self.file.is_file() else []
        return [entry for line in lines if (entry := _entry(line))]

    def typical_seconds(self, kind: str) -> float | None:
        """Median of whole units; for trainings before any, what finished runs of the study say."""
        whole = [
            entry["seconds"]
            for entry in self.read()
            if entry["kind"] == kind and entry["code"] == 0 and not entry["resumed"]
        ]
        if not whole and kind == "train":
            whole = [self._trained(unit) for unit in self.plan.units if self._is_done(unit)]
        return median(whole) if whole else None

    def _is_done(self, unit: Unit) -> bool:
        return unit.kind == "train" and self.plan.state(unit) == "finished"

    def _trained(self, unit: Unit) -> float:
        rows = RunDirectory.open(self.plan.run(unit)).read_timings()
        return sum(row["seconds/total"] for row in rows)


def _entry(line: str) -> dict[str, Any] | None:
    try:
        found = json.loads(line)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None
