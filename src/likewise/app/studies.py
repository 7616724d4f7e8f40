"""Pages about human studies: how far they are, the raters' address, and the report."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from likewise.app.catalogue import Catalogue
from likewise.app.pages import render
from likewise.app.rating import OpenStudies
from likewise.people.files import open_study
from likewise.printable import printable

# The report is one file, with its style and its script inside; all text in it is escaped.
REPORT_POLICY = (
    "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


@dataclass(frozen=True)
class Row:
    """One study in the list; `problem` says why it cannot be used, or is empty."""

    label: str
    problem: str = ""
    key: str = ""
    systems: str = ""
    questions: str = ""
    progress: dict[str, int] | None = None


def routes(catalogue: Catalogue, studies: OpenStudies) -> list[Route]:
    async def listed(request: Request) -> Response:
        rows = await run_in_threadpool(_rows, catalogue, studies)
        return HTMLResponse(render("studies.html.j2", tab="studies", rows=rows))

    async def report(request: Request) -> Response:
        study, _, _ = await run_in_threadpool(studies.find, request.path_params["key"])

        def written() -> str:
            from likewise.people.findings import summarise
            from likewise.people.page import people_page  # with matplotlib and scipy: seconds

            return people_page(study, summarise(study))

        page = await run_in_threadpool(written)
        return HTMLResponse(page, headers={"content-security-policy": REPORT_POLICY})

    return [Route("/studies", listed), Route("/studies/{key}/report", report)]


def _rows(catalogue: Catalogue, studies: OpenStudies) -> list[Row]:
    return [_row(found, studies) for found in catalogue.studies()]


def _row(found: Any, studies: OpenStudies) -> Row:
    label = printable(found.label)
    try:
        settings = open_study(found.path).settings
        _, _, store = studies.find(settings.key)
        progress = store.progress()
    except Exception as error:  # one damaged study must not hide the others
        return Row(label, problem=printable(str(error)))
    questions = ", ".join(one.name for one in settings.questions)
    return Row(label, "", settings.key, ", ".join(settings.systems), questions, progress)
