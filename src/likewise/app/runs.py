"""Pages about runs: charts that grow while training goes on, of up to four runs at once."""

from __future__ import annotations

import os
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from likewise.app.catalogue import Catalogue, Found, leads_out
from likewise.app.pages import options, render
from likewise.app.telemetry import Plan, telemetry
from likewise.printable import printable
from likewise.records import RunDirectory

MOST = 4  # runs in one chart
FILES = ("metrics.jsonl", "timings.jsonl", "recipe.yaml")


class Readings:
    """What runs look like; a run is read again when one of its files has changed."""

    def __init__(self) -> None:
        self._known: dict[Path, tuple[Any, dict[str, Any]]] = {}

    def read(self, found: Found) -> dict[str, Any]:
        """A run's charts and warnings, or `problem`: why it cannot be read."""
        state = [_stamp(found.path / name) for name in FILES]
        known = self._known.get(found.path)
        if known is None or known[0] != state:
            known = self._known[found.path] = (state, _read(found))
        newest = max((stamp[1] for stamp in state[:2] if stamp), default=None)
        quiet = None if newest is None else max(0.0, time.time() - newest)
        return {"id": found.id, "label": printable(found.label), "quiet": quiet, **known[1]}


def routes(catalogue: Catalogue) -> list[Route]:
    readings = Readings()

    async def page(request: Request) -> Response:
        runs = await run_in_threadpool(catalogue.runs)
        chosen = request.query_params.getlist("run") or [one.id for one in runs[:1]]
        rows = options(runs, chosen)
        return HTMLResponse(render("runs.html.j2", tab="runs", rows=rows, most=MOST))

    async def data(request: Request) -> Response:
        wanted = request.query_params.getlist("run")[:MOST]

        def read() -> list[dict[str, Any]]:
            runs = {one.id: one for one in catalogue.runs()}
            return [readings.read(runs[run]) for run in dict.fromkeys(wanted) if run in runs]

        content = {"runs": await run_in_threadpool(read)}
        return JSONResponse(content, headers={"cache-control": "no-store"})

    return [Route("/runs", page), Route("/runs/data", data)]


def _read(found: Found) -> dict[str, Any]:
    try:
        leading_out = [name for name in FILES if leads_out(found.path / name, found.root)]
        if leading_out:
            raise ValueError(f"{', '.join(leading_out)}: a link that leads out of the folder")
        run = RunDirectory.open(found.path)
        recipe = run.recipe
        plan = Plan(
            rewards={name: one.kind for name, one in recipe.rewards.items()},
            iterations=recipe.run.iterations,
            images=recipe.rollout.tasks * recipe.rollout.group_size,
            tasks=recipe.run.evaluation.tasks,
        )
        numbers = telemetry(plan, run.read_metrics(), run.read_timings())
        return {"problem": "", **asdict(numbers)}
    except Exception as error:  # a damaged run must not hide the others
        return {"problem": printable(str(error)), "charts": [], "warnings": []}


def _stamp(file: Path) -> tuple[int, float] | None:
    try:
        stat = os.stat(file)
    except OSError:
        return None
    return stat.st_size, stat.st_mtime
