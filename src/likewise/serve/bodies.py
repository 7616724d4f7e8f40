"""Bodies of bounded size and duration, below everything else: a pure ASGI middleware."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from fastapi import HTTPException
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from likewise.serve.limits import Limits


class BoundedBodies:
    """Refuses bodies that are too large (413) or too slow (408).

    Whatever the answer is, what is left of the body is read first, and dropped: a client sends all
    before it reads, and would see a broken connection instead of the answer. Past twice the limit
    the connection is closed all the same.

    Args:
        answered: Called with the status of every answer.
    """

    def __init__(self, app: ASGIApp, limits: Limits, answered: Callable[[int], None]) -> None:
        self.app, self.limits, self.answered = app, limits, answered

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        body = _Body(receive, self.limits, Headers(scope=scope).get("content-length"))

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                self.answered(message["status"])
                if not await body.dropped():
                    message["headers"] = [*message["headers"], (b"connection", b"close")]
            await send(message)

        await self.app(scope, body.receive, answer)


class _Body:
    def __init__(self, receive: Receive, limits: Limits, declared: str | None) -> None:
        self._receive, self.limits = receive, limits
        self.declared = int(declared) if declared and declared.isdecimal() else 0
        self.until = asyncio.get_running_loop().time() + limits.seconds
        self.size, self.complete = 0, False

    async def receive(self) -> Message:
        """The next part. Raises HTTPException 408 and 413."""
        if self.complete:
            return await self._receive()
        limit = self.limits.request_bytes
        if self.declared <= limit:
            try:
                message = await self._next()
            except TimeoutError:
                late = f"the request took longer than {self.limits.seconds:g} s to arrive"
                raise HTTPException(408, late) from None
            if self.size <= limit:
                return message
        raise HTTPException(413, f"a request may have {limit} bytes at most")

    async def dropped(self) -> bool:
        """Read the rest; whether that was all."""
        try:
            while not self.complete and self.size <= 2 * self.limits.request_bytes:
                await self._next()
        except TimeoutError:
            pass
        return self.complete

    async def _next(self) -> Message:
        async with asyncio.timeout_at(self.until):
            message = await self._receive()
        self.size += len(message.get("body", b""))
        self.complete = not message.get("more_body", False)
        return message
