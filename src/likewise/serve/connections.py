"""Open connections: how many, for how long without a request, and which one is closed first."""

from __future__ import annotations

import asyncio
import resource
from typing import Any, ClassVar

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from likewise.serve.limits import AUTHORISED, Limits

BACKLOG = 128  # connections that asyncio accepts in one go, before anyone can count them
SPARE_FILES = 256  # descriptors of the reward and its libraries


class BoundedConnection(H11Protocol):
    """One connection of a server that has a limit of them.

    A request's headers have to arrive within `limits.header_seconds`. When all connections are
    taken, a new one replaces the oldest that waits for headers, or whose request showed no token,
    so that clients without a token cannot shut out others. Where there is no such connection, the
    new one is closed.
    """

    limits: ClassVar[Limits]

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.since = self.loop.time()
        self.header_timer: asyncio.TimerHandle | None = None
        self._close_surplus()
        self._watch_headers()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._forget_timer()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch_headers()

    def on_response_complete(self) -> None:
        self.since = self.loop.time()
        super().on_response_complete()

    @property
    def is_replaceable(self) -> bool:
        """Whether it may be closed for another: it has no authorised request."""
        state: Any = self.scope["state"] if self.scope else {}  # none yet where it is not HTTP
        return self._waits or not state.get(AUTHORISED)

    @property
    def _waits(self) -> bool:
        """Whether the headers of its next request are not complete."""
        return self.conn.their_state is h11.IDLE

    def _close_surplus(self) -> None:
        taken = [one for one in self.connections if not one.transport.is_closing()]
        if len(taken) <= self.limits.connections:
            return
        others = [
            one for one in taken
            if isinstance(one, BoundedConnection) and one is not self and one.is_replaceable
        ]  # fmt: skip
        oldest = min(others, key=lambda one: one.since, default=self)
        oldest.transport.abort()

    def _watch_headers(self) -> None:
        """Start the clock with the first byte of a request, and stop it with its last header."""
        if not self._waits or self.transport.is_closing():
            self._forget_timer()
        elif self.header_timer is None:
            seconds = self.limits.header_seconds
            self.header_timer = self.loop.call_later(seconds, self.transport.abort)

    def _forget_timer(self) -> None:
        if self.header_timer is not None:
            self.header_timer.cancel()
            self.header_timer = None


def protocol(limits: Limits) -> type[Any]:
    """The class of a server's connections, for ``uvicorn.Config(http=…)``."""
    return type("Connection", (BoundedConnection,), {"limits": limits})


def ensure_descriptors(connections: int) -> None:
    """Let this process open so many connections at once, and files beside them.

    Raises:
        ValueError: the system's hard limit is lower.
    """
    wanted = connections + 2 * BACKLOG + SPARE_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return
    if hard != resource.RLIM_INFINITY and hard < wanted:
        raise ValueError(
            f"--max-connections {connections} needs {wanted} open files, and this system allows "
            f"{hard}: choose fewer, or raise ulimit -n"
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
