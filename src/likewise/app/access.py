"""Who may see what, and what a browser may do with it: a pure ASGI middleware."""

from __future__ import annotations

import hmac
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from likewise.serve.limits import AUTHORISED

COOKIE = "likewise"
OPEN = ("/rate/", "/static/")  # raters know the secret part of their study's address
HEADERS = {
    "content-security-policy": "default-src 'none'; img-src 'self' data:; script-src 'self'; "
    "style-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
}


class Access:
    """Asks for the token, and for a request that this server's own pages made.

    Whoever opens ``?token=…`` once gets a cookie. Without a token only this machine can reach the
    server; then the Host header has to name it, so that no page elsewhere can reach it by a name
    that it controls (DNS rebinding).

    Args:
        token: None for none.
    """

    def __init__(self, app: ASGIApp, token: str | None) -> None:
        self.app, self.token = app, token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        refusal = self._refusal(scope)
        if refusal is not None:
            await refusal(scope, receive, _protected(send))
            return
        if not scope["path"].startswith(OPEN):  # else a stranger's connection may make room
            scope.setdefault("state", {})[AUTHORISED] = True
        await self.app(scope, receive, _protected(send))

    def _refusal(self, scope: Scope) -> Response | None:
        headers = Headers(scope=scope)
        if self.token is None and not _is_local(headers.get("host", "")):
            return PlainTextResponse("wrong host", 421)
        if scope["method"] not in ("GET", "HEAD") and not _is_own(headers):
            return PlainTextResponse("this request was made by another page", 403)
        if self.token is None or scope["path"].startswith(OPEN):
            return None
        given = parse_qs(scope["query_string"].decode("latin-1")).get("token", [""])[0]
        if given and _same(given, self.token):
            answer = RedirectResponse(scope["path"], 303)
            answer.set_cookie(COOKIE, self.token, httponly=True, samesite="strict", path="/")
            return answer
        if _same(_cookie(headers, COOKIE), self.token):
            return None
        return PlainTextResponse("a token is needed: open the address that was printed", 401)


def _protected(send: Send) -> Send:
    async def answer(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in HEADERS.items():
                headers.setdefault(name, value)
        await send(message)

    return answer


def _is_local(host: str) -> bool:
    try:
        return urlsplit(f"//{host}").hostname in ("localhost", "127.0.0.1", "::1")
    except ValueError:
        return False


def _is_own(headers: Headers) -> bool:
    """Whether a request that changes something comes from a page of this server, as JSON.

    Programs send no Origin; browsers do, and let other pages send JSON only if they are asked.
    """
    origin = headers.get("origin")
    own = origin is None or urlsplit(origin).netloc == headers.get("host")
    return own and headers.get("content-type", "").partition(";")[0] == "application/json"


def _cookie(headers: Headers, name: str) -> str:
    try:
        found = SimpleCookie(headers.get("cookie", "")).get(name)
    except CookieError:
        return ""
    return found.value if found else ""


def _same(one: str, other: str) -> bool:
    return hmac.compare_digest(one.encode(), other.encode())
