"""The application: ``POST /score``, ``GET /health``, ``GET /metrics``.

It can be run by uvicorn, mounted in another application, or given to Ray Serve.
"""

from __future__ import annotations

import hmac
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from fastapi import Depends, FastAPI, HTTPException, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile
from starlette.requests import ClientDisconnect

from likewise.serve.answers import RewardFunction
from likewise.serve.batching import Batcher, RewardError
from likewise.serve.bodies import BoundedBodies
from likewise.serve.counters import Counters
from likewise.serve.decoding import decode, header_size
from likewise.serve.documents import Document, images_and_tasks, parse_document
from likewise.serve.limits import AUTHORISED, DOCUMENT_BYTES, Limits, Load

DEFAULT_LIMITS = Limits()


def create_app(
    reward: RewardFunction,
    *,
    token: str | None = None,
    limits: Limits = DEFAULT_LIMITS,
    max_batch: int = 32,
    max_wait: float = 0.005,
) -> FastAPI:
    """Serve one reward.

    Args:
        reward: ``(images, tasks) -> one number per image``, higher being better; see
            :func:`likewise.serve.answers.plain_numbers`. Only one thread calls it.
        token: What clients must send as ``Authorization: Bearer …``; None: nothing.
        max_batch: Images that the reward gets at a time, at most.
        max_wait: Seconds that an image waits for others to fill its batch.
    """
    counters, load = Counters(), Load(limits)
    batcher = Batcher(reward, max_batch, max_wait, counters)
    counters.watch(batcher.waiting.qsize, lambda: load.requests)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with batcher.running():
            yield

    app = FastAPI(title="likewise reward", lifespan=lifespan, openapi_url=None)
    app.add_middleware(BoundedBodies, limits=limits, answered=counters.answered)
    authorised = [Depends(_authorisation(token))]

    @app.post("/score", dependencies=authorised)
    async def score(request: Request) -> dict[str, list[float | None]]:
        values = await _score(request, load, batcher)
        counters.scored(values)
        return {"values": values}

    @app.get("/health")
    async def health() -> dict[str, Any]:
        return {"status": "ok", "requests": load.requests, "waiting": batcher.waiting.qsize()}

    @app.get("/metrics", dependencies=authorised)
    async def metrics() -> Response:
        return Response(counters.text(), media_type=CONTENT_TYPE_LATEST)

    return app


def _authorisation(token: str | None) -> Callable[[Request], None]:
    """A dependency that refuses (401) requests without the token, and marks all others."""

    def authorise(request: Request) -> None:
        given = request.headers.get("authorization", "").encode()
        if token is not None and not hmac.compare_digest(given, f"Bearer {token}".encode()):
            raise HTTPException(401, "a bearer token is needed", {"WWW-Authenticate": "Bearer"})
        setattr(request.state, AUTHORISED, True)

    return authorise


async def _score(request: Request, load: Load, batcher: Batcher) -> list[float | None]:
    """Read a request and score its images. Raises HTTPException for whatever is wrong with it."""
    with load.of_request():
        document, files = await _read(request, load.limits)
        sizes = [_size(index, data, load.limits) for index, data in enumerate(files)]
        with load.of_pixels(sum(width * height for width, height in sizes)):
            images, tasks = await run_in_threadpool(_open, document, files, sizes)
            try:
                return await batcher.score(images, tasks, document.seconds)
            except TimeoutError as error:
                raise HTTPException(504, str(error)) from None
            except RewardError as error:
                raise HTTPException(500, f"the reward failed: {error}") from None


async def _read(request: Request, limits: Limits) -> tuple[Document, list[bytes]]:
    """The two kinds of parts. Raises HTTPException 400 and 422; those of the body pass."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "multipart/form-data":
        raise HTTPException(415, "multipart/form-data is wanted")
    parts = request.form(max_files=limits.images, max_fields=1, max_part_size=DOCUMENT_BYTES)
    try:
        async with parts as form:
            items = form.multi_items()
            texts = [part for name, part in items if name == "tasks" and isinstance(part, str)]
            uploads = [part for name, part in items if name == "images"]
            files = [await part.read() for part in uploads if isinstance(part, UploadFile)]
    except ClientDisconnect:
        raise HTTPException(400, "the client went away") from None
    if len(texts) != 1 or len(files) != len(items) - 1:
        raise HTTPException(400, "one field 'tasks' and files 'images' are wanted")
    try:
        document = parse_document(texts[0])
    except ValueError as error:
        raise HTTPException(422, str(error)) from None
    _check_counts(document, limits)
    return document, files


def _check_counts(document: Document, limits: Limits) -> None:
    """Tasks may share files, so that a bound on files alone does not bound what tasks name."""
    named = [len(task.other_photos) for task in document.tasks]
    named += [len(task.more_references) for task in document.tasks]
    if max(len(document.tasks), *named) > limits.images:
        raise HTTPException(
            413, f"a request may have {limits.images} tasks, and each as many photos, at most"
        )


def _size(index: int, data: bytes, limits: Limits) -> tuple[int, int]:
    try:
        width, height = header_size(data)
    except ValueError as error:
        raise HTTPException(422, f"image {index} {error}") from None
    if not 0 < width * height <= limits.pixels:
        detail = f"image {index} is {width}×{height}; {limits.pixels} pixels are the limit"
        raise HTTPException(413 if width * height else 422, detail)
    return width, height


def _open(
    document: Document, files: Sequence[bytes], sizes: Sequence[tuple[int, int]]
) -> tuple[list[Any], list[Any]]:
    opened = []
    for index, (data, size) in enumerate(zip(files, sizes, strict=True)):
        try:
            opened.append(decode(data, size))
        except ValueError as error:
            raise HTTPException(422, f"image {index} {error}") from None
    try:
        return images_and_tasks(document, opened)
    except ValueError as error:
        raise HTTPException(422, str(error)) from None
