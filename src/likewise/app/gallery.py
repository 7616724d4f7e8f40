"""The gallery: images of evaluations beside each other, to be filtered, sorted and linked to."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from likewise.app.catalogue import SCORES, Catalogue, Found, inside
from likewise.app.pages import options, render
from likewise.images import SUFFIXES
from likewise.printable import printable

# Benchmark → task → reference image; empty where it cannot be had.
References = Callable[[str], Mapping[str, Image.Image]]

LABELS = ("subject", "kind", "category", "complexity", "prompt")
MOST = 4  # systems beside each other
SIDE = 512  # pixels of a reference


@dataclass(frozen=True)
class Drawn:
    """Images of one system, in a folder with ``scores.parquet``."""

    found: Found
    label: str

    def rows(self) -> list[dict[str, Any]]:
        """One per image.

        Raises:
            ValueError: the table is damaged.
        """
        from likewise.report.reading import read_drawn  # pyarrow takes a second

        drawn = read_drawn(self.found.path)
        return [] if drawn is None else drawn.scores.to_pylist()

    def benchmark(self) -> str:
        from likewise.report.reading import read_settings

        return str(read_settings(self.found.path.parent).get("benchmark", ""))


class Gallery:
    """What the pages ask of the folders.

    Args:
        references: Images that conditioned the generators.
    """

    def __init__(self, catalogue: Catalogue, references: References) -> None:
        self.catalogue, self.references = catalogue, references
        self._tables: dict[tuple[Path, float], list[dict[str, Any]]] = {}
        self._references: dict[str, Mapping[str, Image.Image]] = {}
        self._known: dict[str, Drawn] = {}
        self._lock = threading.Lock()  # a benchmark is read once, whoever asks first

    def systems(self) -> list[Drawn]:
        """All that was evaluated, in order of their paths."""
        found = [Drawn(one, printable(one.label)) for one in self.catalogue.evaluations()]
        self._known = {one.found.id: one for one in found}
        return found

    def _system(self, name: str) -> Drawn | None:
        """By its identifier; folders are searched for one that is new, and not for every image."""
        if name not in self._known:
            self.systems()
        return self._known.get(name)

    def rows(self, drawn: Drawn) -> list[dict[str, Any]]:
        """As `Drawn.rows`; read again when the file has changed."""
        file = drawn.found.path / SCORES
        stamp = (file, file.stat().st_mtime)
        if stamp not in self._tables:
            self._tables = {key: rows for key, rows in self._tables.items() if key[0] != file}
            self._tables[stamp] = drawn.rows()
        return self._tables[stamp]

    def content(self, chosen: Sequence[str]) -> dict[str, Any]:
        """Everything about some systems; one that cannot be read says why."""
        systems: list[dict[str, Any]] = []
        tasks: dict[str, dict[str, Any]] = {}
        known = {one.found.id: one for one in self.systems()}
        for number, one in enumerate(known[name] for name in chosen if name in known):
            try:
                rows, benchmark = self.rows(one), one.benchmark()
                problem = ""
            except (ValueError, OSError) as error:
                rows, benchmark, problem = [], "", printable(str(error))
            systems.append({"id": one.found.id, "label": one.label, "problem": problem,
                            "benchmark": benchmark})  # fmt: skip
            for index, row in enumerate(rows):
                key = f"{row['task']}/{row.get('number', 0)}"
                labels = {label: row.get(label) for label in LABELS}
                task = tasks.setdefault(key, {"key": key, "task": row["task"], **labels,
                                              "images": {}})  # fmt: skip
                task["images"][number] = {"index": index, "scores": dict(_numbers(row))}
        return {"systems": systems, "tasks": list(tasks.values())}

    def image(self, system: str, index: int) -> Path:
        """File of an image, which is in the system's own folder.

        Raises:
            HTTPException: there is none (404).
        """
        drawn = self._system(system)
        try:
            row = self.rows(drawn)[index] if drawn is not None and index >= 0 else None
        except (ValueError, OSError, IndexError):
            row = None
        if drawn is not None and row is not None:
            file = drawn.found.path / str(row["file"])
            if inside(file, drawn.found.path.resolve()) and file.suffix.lower() in SUFFIXES:
                return file
        raise HTTPException(404, "there is no such image")

    def reference(self, benchmark: str, task: str) -> bytes:
        """Reference of a task as WebP.

        Raises:
            HTTPException: there is none (404).
        """
        with self._lock:
            if benchmark not in self._references:
                if benchmark not in {one.benchmark() for one in self.systems()}:
                    raise HTTPException(404, "there is no such benchmark")
                self._references[benchmark] = self.references(benchmark)
        image = self._references[benchmark].get(task)
        if image is None:
            raise HTTPException(404, "there is no such reference")
        small = image.convert("RGB")
        small.thumbnail((SIDE, SIDE))
        content = io.BytesIO()
        small.save(content, "WEBP", lossless=True, method=1)
        return content.getvalue()


def routes(gallery: Gallery) -> list[Route]:
    async def page(request: Request) -> Response:
        found = [one.found for one in await run_in_threadpool(gallery.systems)]
        chosen = request.query_params.getlist("system") or [one.id for one in found[:2]]
        rows = options(found, chosen)
        return HTMLResponse(render("gallery.html.j2", tab="gallery", rows=rows, most=MOST))

    async def data(request: Request) -> Response:
        chosen = request.query_params.getlist("system")[:MOST]
        content = await run_in_threadpool(gallery.content, list(dict.fromkeys(chosen)))
        return JSONResponse(content, headers={"cache-control": "no-store"})

    async def image(request: Request) -> Response:
        system, index = request.path_params["system"], request.path_params["index"]
        file = await run_in_threadpool(gallery.image, system, index)
        return FileResponse(file, headers={"cache-control": "private, max-age=3600"})

    async def reference(request: Request) -> Response:
        asked = request.query_params.get("benchmark", ""), request.query_params.get("task", "")
        content = await run_in_threadpool(gallery.reference, *asked)
        headers = {"cache-control": "private, max-age=3600"}
        return Response(content, media_type="image/webp", headers=headers)

    return [
        Route("/gallery", page),
        Route("/gallery/data", data),
        Route("/gallery/image/{system}/{index:int}", image),
        Route("/gallery/reference", reference),
    ]


def _numbers(row: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """Scores of an image that are known."""
    for name, value in row.items():
        if isinstance(value, float) and value == value:
            yield name, round(value, 4)
