"""The application, and how it is run."""

from __future__ import annotations

import mimetypes
import os
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

from likewise.app import gallery, playground, rating, runs, studies
from likewise.app.access import Access
from likewise.app.catalogue import Catalogue
from likewise.app.pages import render, static_file
from likewise.serve.connections import BACKLOG, ensure_descriptors
from likewise.serve.limits import Limits
from likewise.serve.running import is_loopback, make_server

TOKEN = "LIKEWISE_APP_TOKEN"  # name of the environment variable
SHORTEST = 16  # characters
LIMITS = Limits(request_bytes=16 * 2**20, connections=512)


def create_app(
    folders: Sequence[Path],
    token: str | None = None,
    references: gallery.References = lambda benchmark: {},
    painter: playground.Painter | None = None,
) -> Starlette:
    """The app about what lies in `folders`; nothing else is served.

    Args:
        references: Benchmark → task → the image that conditioned the generator.
        painter: Who draws in the playground; None: there is none.
        token: What visitors other than raters have to show; None: nothing, and then only requests
            to this machine by its own name are answered.
    """
    catalogue = Catalogue(folders)
    open_studies = rating.OpenStudies(catalogue)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        yield
        open_studies.close()

    async def start(request: Request) -> Response:
        if catalogue.runs():
            return RedirectResponse("/runs", 303)
        if catalogue.evaluations():
            return RedirectResponse("/gallery", 303)
        if catalogue.studies():
            return RedirectResponse("/studies", 303)
        folders = [str(root) for root in catalogue.roots]
        return HTMLResponse(render("empty.html.j2", tab="", folders=folders))

    return Starlette(
        routes=[
            Route("/", start),
            Route("/static/{name}", _static),
            *runs.routes(catalogue),
            *gallery.routes(gallery.Gallery(catalogue, references)),
            *(playground.routes(catalogue, painter) if painter else []),
            *studies.routes(catalogue, open_studies),
            *rating.routes(open_studies),
        ],
        middleware=[Middleware(Access, token=token)],
        exception_handlers={HTTPException: _refused},
        lifespan=lifespan,
    )


async def _static(request: Request) -> Response:
    name = request.path_params["name"]
    content = static_file(name)
    if content is None:
        raise HTTPException(404, "there is no such file")
    kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
    return Response(content, media_type=kind, headers={"cache-control": "no-cache"})


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return PlainTextResponse(error.detail, error.status_code, error.headers)


def find_token(host: str, given: str | None) -> str | None:
    """The token to ask for: the one given, else that of the environment; None where none is needed.

    Raises:
        ValueError: it is too short, or others than this machine can reach `host` and there is none.
    """
    token = given if given is not None else os.environ.get(TOKEN)
    if token is None:
        if not is_loopback(host):
            raise ValueError(
                f"--host {host} is open to other machines: give a --token, or put one into the "
                f"environment variable {TOKEN} (openssl rand -hex 32)"
            )
        return None
    if len(token) < SHORTEST or not (token.isascii() and token.replace("-", "").isalnum()):
        raise ValueError(f"a token has {SHORTEST} letters and digits or more")
    return token


def listen(host: str, port: int) -> socket.socket:
    """A socket at which nothing else listens.

    Raises:
        ValueError: something does, or this machine has no such address.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as error:
        raise ValueError(
            f"cannot listen at {host}, port {port} ({error.strerror}): try another --port"
        ) from error


def run(app: Starlette, listening: socket.socket) -> None:
    """Serve until SIGTERM or Ctrl-C."""
    ensure_descriptors(LIMITS.connections)
    host, port = listening.getsockname()[:2]
    make_server(app, host, port, LIMITS).run(sockets=[listening])
