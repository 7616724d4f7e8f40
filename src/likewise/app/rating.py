"""The page that raters see: one pair, one question at a time.

Nothing that is sent tells which system drew what, or which pairs are checks. A vote is on the disk
when its request is answered.
"""

from __future__ import annotations

import asyncio
import re
import secrets
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from likewise.app.catalogue import Catalogue, inside
from likewise.app.pages import render
from likewise.people.files import PeopleStudy, open_study
from likewise.people.store import RaterState, Vote, VoteRefusedError, VoteStore

COOKIE = "rater"
YEAR = 365 * 24 * 3600  # seconds
NAME = re.compile(r"[0-9a-f]{20}")  # of an image
SECRET = re.compile(r"[\w-]{24,64}")
BODY = 4096  # bytes of a request, at most
PATIENCE = 20  # seconds that a request may take to arrive


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


BodyT = TypeVar("BodyT", bound=_Body)
_Answer = tuple[dict[str, Any], int]  # what is sent as JSON, and the status


class _VoteBody(_Body):
    showing: int = Field(ge=0, lt=2**53)
    question: int = Field(ge=0, lt=1000)
    choice: str = Field(max_length=8)
    nonce: str = Field(min_length=8, max_length=64)
    milliseconds: int | None = Field(None, ge=-(2**53), lt=2**53)


class _UndoBody(_Body):
    vote: int = Field(ge=0, lt=2**53)


class OpenStudies:
    """Studies that have been asked for, with their votes open."""

    def __init__(self, catalogue: Catalogue) -> None:
        self.catalogue = catalogue
        self._lock = threading.Lock()
        self._open: dict[str, tuple[PeopleStudy, Path, VoteStore]] = {}

    def find(self, key: str) -> tuple[PeopleStudy, Path, VoteStore]:
        """The study with this secret key, the folder that the app was given, and its votes.

        Raises:
            HTTPException: there is none (404).
        """
        with self._lock:
            if key not in self._open or not self._open[key][0].votes.is_file():
                self._open.pop(key, None)
                self._look()
            if key not in self._open:
                raise HTTPException(404, "there is no such study")
            return self._open[key]

    def _look(self) -> None:
        for found in self.catalogue.studies():
            try:
                study = open_study(found.path)
            except (ValueError, OSError):
                continue  # damaged: the page of studies says so
            if study.settings.key not in self._open and inside(study.votes, found.root):
                store = VoteStore(study.votes, len(study.settings.questions))
                self._open[study.settings.key] = study, found.root, store

    def close(self) -> None:
        for _, _, store in self._open.values():
            store.close()


def routes(studies: OpenStudies) -> list[Route]:
    """All below ``/rate/KEY``."""
    rating = _Rating(studies)
    return [
        Route("/rate/{key}/", rating.page),
        Route("/rate/{key}/state", rating.state),
        Route("/rate/{key}/join", rating.join, methods=["POST"]),
        Route("/rate/{key}/vote", rating.vote, methods=["POST"]),
        Route("/rate/{key}/undo", rating.undo, methods=["POST"]),
        Route("/rate/{key}/image/{name}", rating.image),
    ]


class _Rating:
    def __init__(self, studies: OpenStudies) -> None:
        self.studies = studies

    async def page(self, request: Request) -> Response:
        study, _, _ = await run_in_threadpool(self.studies.find, request.path_params["key"])
        page = HTMLResponse(
            render("rate.html.j2", consent=study.settings.consent.split("\n")),
            headers={"cache-control": "no-store"},
        )
        if not _secret(request):
            # Before anybody joins, so that two tabs of one person are one rater.
            path = f"/rate/{study.settings.key}/"
            page.set_cookie(
                COOKIE, secrets.token_urlsafe(24), max_age=YEAR, path=path, httponly=True,
                samesite="lax",
            )  # fmt: skip
        return page

    async def state(self, request: Request) -> Response:
        def look(study: PeopleStudy, store: VoteStore, secret: str) -> _Answer:
            return _where(study, store, secret)

        return await self._answer(request, look)

    async def join(self, request: Request) -> Response:
        def join(study: PeopleStudy, store: VoteStore, secret: str) -> _Answer:
            if not secret:
                raise HTTPException(401, "cookies are needed: open the page first")
            if not store.join(secret):
                return {"joined": False, "full": True}, 200
            return _where(study, store, secret)

        return await self._answer(request, join)

    async def vote(self, request: Request) -> Response:
        body = await _body(request, _VoteBody)
        vote = Vote(body.showing, body.question, body.choice, body.nonce, body.milliseconds)

        def cast(study: PeopleStudy, store: VoteStore, secret: str) -> _Answer:
            rater = _rater(store, secret)
            try:
                return _described(study, rater, store.vote(rater[0], vote)), 200
            except VoteRefusedError as error:
                now = _described(study, rater, store.state(rater[0]))
                return {**now, "refused": str(error)}, 409

        return await self._answer(request, cast)

    async def undo(self, request: Request) -> Response:
        body = await _body(request, _UndoBody)

        def undo(study: PeopleStudy, store: VoteStore, secret: str) -> _Answer:
            rater = _rater(store, secret)
            return _described(study, rater, store.undo(rater[0], body.vote)), 200

        return await self._answer(request, undo)

    async def image(self, request: Request) -> Response:
        study, root, _ = await run_in_threadpool(self.studies.find, request.path_params["key"])
        name = request.path_params["name"]
        file = study.image(name)
        if not NAME.fullmatch(name) or not inside(file, root):
            raise HTTPException(404, "there is no such image")
        forever = {"cache-control": "private, max-age=31536000, immutable"}
        return FileResponse(file, media_type="image/webp", headers=forever)

    async def _answer(
        self, request: Request, do: Callable[[PeopleStudy, VoteStore, str], _Answer]
    ) -> Response:
        """What `do` says of a study to who sent the request; all of it in one visit to a thread."""
        key, secret = request.path_params["key"], _secret(request)

        def answered() -> _Answer:
            study, _, store = self.studies.find(key)
            return do(study, store, secret)

        content, status = await run_in_threadpool(answered)
        return JSONResponse(content, status, headers={"cache-control": "no-store"})


def _where(study: PeopleStudy, store: VoteStore, secret: str) -> _Answer:
    rater = store.find(secret)
    if rater is None:
        return {"joined": False}, 200
    return _described(study, rater, store.state(rater[0])), 200


def _rater(store: VoteStore, secret: str) -> tuple[int, str]:
    """Raises HTTPException 401."""
    rater = store.find(secret)
    if rater is None:
        raise HTTPException(401, "you have not joined this study")
    return rater


def _secret(request: Request) -> str:
    """Of a rater; empty where there is none."""
    found = request.cookies.get(COOKIE, "")
    return found if SECRET.fullmatch(found) else ""


def _described(study: PeopleStudy, rater: tuple[int, str], state: RaterState) -> dict[str, Any]:
    """What the page shows. It must not tell systems, scores, or checks."""
    found: dict[str, Any] = {
        "joined": True,
        "code": rater[1],
        "done": state.done,
        "total": state.total,
        "undo": state.last_vote,
        "showing": state.showing,
    }
    if state.pair is not None:
        pair = study.pairs[state.pair]
        found |= {
            "question": state.question,
            "text": study.settings.questions[state.question].text,
            "prompt": pair.prompt,
            "reference": pair.reference,
            **_sides(study, state.pair, state.flipped),
        }
    if state.upcoming is not None:
        sides = _sides(study, *state.upcoming)
        found["next"] = [study.pairs[state.upcoming[0]].reference, sides["left"], sides["right"]]
    return found


def _sides(study: PeopleStudy, pair: int, flipped: bool) -> dict[str, str]:
    first, second = study.pairs[pair].first.image, study.pairs[pair].second.image
    return {"left": second, "right": first} if flipped else {"left": first, "right": second}


async def _body(request: Request, kind: type[BodyT]) -> BodyT:
    """Raises HTTPException 408, 413 and 422."""
    content = b""
    try:
        async with asyncio.timeout(PATIENCE):
            async for chunk in request.stream():
                content += chunk
                if len(content) > BODY:
                    raise HTTPException(413, f"a request may have {BODY} bytes at most")
    except TimeoutError:
        raise HTTPException(408, "the request took too long to arrive") from None
    try:
        return kind.model_validate_json(content)
    except ValidationError:
        raise HTTPException(422, "this is not what the page sends") from None
