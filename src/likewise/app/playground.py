"""The playground: a reference, a prompt, and images of several adapters from the same noise.

Images are drawn one after another by a painter that the command hands in; requests wait in line.
"""

from __future__ import annotations

import base64
import binascii
import io
import queue
import secrets
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from PIL import Image
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from likewise.app.catalogue import Catalogue, Found, inside
from likewise.app.pages import Option, options, render
from likewise.app.telemetry import change_of_evaluators
from likewise.images import ImageError, check_mode, decoded, on_white, opened
from likewise.printable import printable
from likewise.records.run_directory import METRICS, RunDirectory
from likewise.types import Task

BYTES = 12 * 2**20  # of a request, the uploaded image in base64 included
PIXELS = 16 * 2**20  # of an uploaded image
WAITING = 8  # jobs in line
KEPT = 32  # jobs whose images are remembered
MOST = 4  # systems in one order, beside a blend of two
UNTRAINED, UNTRAINED_LABEL = "untrained", "untrained nano model"


class Painter(Protocol):
    """Who draws; see `likewise.api.painting.Painter`."""

    def examples(self) -> Sequence[Task]: ...

    def draw(
        self,
        run: Path | None,
        task: Task,
        seed: int,
        strength: float,
        step: Callable[[int, int], None],
        second: Path | None = None,
        share: float = 0.0,
    ) -> tuple[Image.Image, dict[str, float]]: ...


class _CancelledError(Exception):
    """Nobody wants this image any more."""


class Blend(BaseModel):
    """Two adapters, between which weights are interpolated; `share` is that of the second."""

    model_config = ConfigDict(extra="forbid", strict=True)

    first: str
    second: str
    share: float = Field(ge=0, le=1)


class Order(BaseModel):
    """What the page asks for: an example's reference, or an uploaded one in base64."""

    model_config = ConfigDict(extra="forbid", strict=True)

    prompt: str = Field(min_length=1, max_length=2000)
    systems: list[str] = Field(max_length=MOST)
    blend: Blend | None = None
    seed: int = Field(0, ge=0, lt=2**31)
    strength: float = Field(1.0, ge=0, le=2)
    example: str | None = None
    upload: str | None = None


@dataclass(frozen=True)
class Source:
    """What draws one image; see `likewise.api.painting.Painter.draw`."""

    label: str
    run: Path | None
    second: Path | None = None
    share: float = 0.0


@dataclass(eq=False)
class Job:
    """One order on its way.

    Attributes:
        systems: What draws, an image each.
        state: ``waiting``, ``drawing``, ``done``, ``failed`` or ``cancelled``.
        drawn: Images as PNG with their scores, as far as they are there.
    """

    id: str
    task: Task
    seed: int
    strength: float
    systems: list[Source]
    state: str = "waiting"
    problem: str = ""
    step: int = 0
    steps: int = 0
    drawn: list[tuple[bytes, dict[str, float]]] = field(default_factory=list)
    cancelled: threading.Event = field(default_factory=threading.Event)

    def described(self) -> dict[str, Any]:
        images = [
            {"label": one.label, "image": f"/playground/jobs/{self.id}/{index}", "scores": scores}
            for index, (one, (_, scores)) in enumerate(zip(self.systems, self.drawn, strict=False))
        ]
        return {"id": self.id, "state": self.state, "problem": self.problem, "step": self.step,
                "steps": self.steps, "systems": len(self.systems), "images": images}  # fmt: skip


class Workshop:
    """Jobs in line, and one thread that draws them; it starts with the first job."""

    def __init__(self, painter: Painter) -> None:
        self.painter = painter
        self.jobs: dict[str, Job] = {}
        self._line: queue.Queue[Job] = queue.Queue(WAITING)
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    def add(self, job: Job) -> None:
        """Put a job in line.

        Raises:
            HTTPException: the line is full (503).
        """
        with self._lock:
            try:
                self._line.put_nowait(job)
            except queue.Full:
                raise HTTPException(503, "many images are waiting: try again later") from None
            self.jobs[job.id] = job
            while len(self.jobs) > KEPT:
                self.jobs.pop(next(iter(self.jobs)))
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, daemon=True)
                self._thread.start()

    def find(self, job_id: str) -> Job:
        """Raises HTTPException 404."""
        if job_id not in self.jobs:
            raise HTTPException(404, "there is no such job any more")
        return self.jobs[job_id]

    def _work(self) -> None:
        while True:
            self._draw(self._line.get())

    def _draw(self, job: Job) -> None:
        def step(done: int, steps: int) -> None:
            job.step, job.steps = done, steps
            if job.cancelled.is_set():
                raise _CancelledError

        try:
            for one in job.systems:
                step(0, 0)
                job.state = "drawing"
                image, scores = self.painter.draw(
                    one.run, job.task, job.seed, job.strength, step, one.second, one.share
                )
                content = io.BytesIO()
                image.save(content, "PNG")
                job.drawn.append((content.getvalue(), scores))
            job.state = "done"
        except _CancelledError:
            job.state = "cancelled"
        except Exception as error:  # whatever a run or a model has wrong; the next job may work
            job.state, job.problem = "failed", printable(f"{error}")


def routes(catalogue: Catalogue, painter: Painter) -> list[Route]:
    workshop = Workshop(painter)

    async def page(request: Request) -> Response:
        found = await run_in_threadpool(_adapters, catalogue)
        rows = [Option(UNTRAINED, UNTRAINED_LABEL, UNTRAINED_LABEL, True), *options(found, ())]
        return HTMLResponse(render("playground.html.j2", tab="playground", rows=rows, most=MOST))

    async def adapters(request: Request) -> Response:
        found = await run_in_threadpool(_by_leaning, catalogue)
        return JSONResponse(found, headers={"cache-control": "no-store"})

    async def examples(request: Request) -> Response:
        tasks = await run_in_threadpool(painter.examples)
        return JSONResponse([{"id": one.id, "prompt": one.prompt, "subject": one.subject}
                             for one in tasks])  # fmt: skip

    async def example(request: Request) -> Response:
        task = await run_in_threadpool(_example, painter, request.path_params["task"])
        return Response(_png(task.reference), media_type="image/png")

    async def draw(request: Request) -> Response:
        order = await _order(request)
        job = await run_in_threadpool(_job, order, catalogue, painter)
        workshop.add(job)
        return JSONResponse(job.described(), 202)

    async def state(request: Request) -> Response:
        described = workshop.find(request.path_params["job"]).described()
        return JSONResponse(described, headers={"cache-control": "no-store"})

    async def cancel(request: Request) -> Response:
        job = workshop.find(request.path_params["job"])
        job.cancelled.set()
        return JSONResponse(job.described())

    async def image(request: Request) -> Response:
        job, index = workshop.find(request.path_params["job"]), request.path_params["index"]
        if index >= len(job.drawn):
            raise HTTPException(404, "there is no such image")
        return Response(job.drawn[index][0], media_type="image/png")

    return [
        Route("/playground", page),
        Route("/playground/adapters", adapters),
        Route("/playground/examples", examples),
        Route("/playground/examples/{task}", example),
        Route("/playground/draw", draw, methods=["POST"]),
        Route("/playground/jobs/{job}", state),
        Route("/playground/jobs/{job}/cancel", cancel, methods=["POST"]),
        Route("/playground/jobs/{job}/{index:int}", image),
    ]


def read_upload(text: str) -> Image.Image:
    """An uploaded image, by the reader of all images, with bounded pixels.

    Raises:
        HTTPException: it is not an image (422), or too large (413).
    """
    try:
        content = io.BytesIO(base64.b64decode(text, validate=True))
        with opened(content, "the upload") as image:
            width, height = image.size
            if width * height > PIXELS:
                limit = f"{PIXELS:,} pixels are the limit"
                raise HTTPException(413, f"the image is {width} × {height}: {limit}")
            check_mode(image, "the upload")
            return on_white(decoded(image, "the upload"))
    except (ImageError, binascii.Error) as error:
        raise HTTPException(422, printable(str(error))) from None


def _adapters(catalogue: Catalogue) -> list[Found]:
    return [*catalogue.runs(), *catalogue.adapters()]


def _by_leaning(catalogue: Catalogue) -> list[dict[str, Any]]:
    """Adapters with what training changed, from who leans to identity to who leans to the prompt.

    `change` is that of the two held-out evaluators, or None where it is not known.
    """
    found = _adapters(catalogue)
    rows = [
        {"id": option.id, "label": option.label, "change": _change(one)}
        for option, one in zip(options(found, ()), found, strict=True)
    ]
    return sorted(rows, key=lambda row: _leaning(row["change"]))


def _change(found: Found) -> dict[str, float] | None:
    if not inside(found.path / METRICS, found.root):
        return None
    try:
        return change_of_evaluators(RunDirectory(found.path).read_metrics())
    except (ValueError, OSError):  # the page of runs says what is wrong with it
        return None


def _leaning(change: dict[str, float] | None) -> float:
    return 0.0 if change is None else change["prompt"] - change["identity"]


def _job(order: Order, catalogue: Catalogue, painter: Painter) -> Job:
    found = _adapters(catalogue)
    labels = {one.id: one.label for one in options(found, ())}
    paths = {one.id: one.path for one in found}

    def source(name: str) -> Source:
        if name == UNTRAINED:
            return Source(UNTRAINED_LABEL, None)
        if name not in paths:
            raise HTTPException(404, "there is no such run or adapter")
        return Source(labels[name], paths[name])

    systems = [source(name) for name in dict.fromkeys(order.systems)]
    if order.blend is not None:
        first, second = source(order.blend.first), source(order.blend.second)
        if first.run is None or second.run is None or first.run == second.run:
            raise HTTPException(422, "weights are interpolated between two different adapters")
        share = order.blend.share
        label = f"{first.label} {1 - share:.2f} + {second.label} {share:.2f}"
        systems.append(Source(label, first.run, second.run, share))
    if not systems:
        raise HTTPException(422, "choose what is to draw")
    return Job(secrets.token_hex(8), _task(order, painter), order.seed, order.strength, systems)


def _task(order: Order, painter: Painter) -> Task:
    """The example itself if its prompt is asked for, so that evaluators know what that means."""
    if (order.example is None) == (order.upload is None):
        raise HTTPException(422, "choose one reference: an example, or an upload")
    if order.example is not None:
        task = _example(painter, order.example)
        if task.prompt == order.prompt:
            return task
        reference = task.reference
    else:
        reference = read_upload(order.upload or "")
    return Task(
        id="playground", prompt=order.prompt, class_name="", subject="", category="",
        kind="scene", complexity=1, reference=reference,
    )  # fmt: skip


def _example(painter: Painter, name: str) -> Task:
    found = next((task for task in painter.examples() if task.id == name), None)
    if found is None:
        raise HTTPException(404, "there is no such example")
    return found


async def _order(request: Request) -> Order:
    """Raises HTTPException 413 and 422."""
    content = bytearray()
    async for chunk in request.stream():
        content += chunk
        if len(content) > BYTES:
            raise HTTPException(413, f"a request may have {BYTES // 2**20} MiB at most")
    try:
        return Order.model_validate_json(bytes(content))
    except ValidationError:
        raise HTTPException(422, "this is not what the page sends") from None


def _png(image: Image.Image) -> bytes:
    content = io.BytesIO()
    image.save(content, "PNG")
    return content.getvalue()
