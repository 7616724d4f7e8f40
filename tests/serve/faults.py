"""A front that spoils some of the requests to a real service, by a fixed list."""

from __future__ import annotations

import asyncio
import itertools
import os
import re
import socket
import struct
from collections import Counter
from collections.abc import Sequence
from typing import Any

from likewise.rewards.common.background import Background

HANG = 5.0  # seconds
# Of twenty requests six fail (30 %), four are spoiled otherwise, one hangs.
FAULTS = ["ok", "error", "ok", "nan", "ok", "error", "ok", "hang", "ok", "error"]
FAULTS += ["reset", "ok", "error", "garbage", "ok", "error", "truncated", "ok", "error", "ok"]
ANSWER = b"HTTP/1.1 %s\r\nContent-Type: application/json\r\nConnection: close\r\n"


class Front:
    """Listens on a port and passes requests on to another one of this machine; a context manager.

    Args:
        upstream: Port of the service; may be changed.
        faults: What happens to the requests, in turn and over again: ``ok``, ``error`` (500),
            ``busy`` (503), ``hang``, ``reset``, ``garbage`` (no HTTP), ``truncated`` (JSON),
            ``nan`` (numbers that are none), ``few`` (too few numbers), ``endless``.
    """

    def __init__(self, upstream: int, faults: Sequence[str]) -> None:
        self.upstream, self.faults = upstream, itertools.cycle(faults)
        self.seen: Counter[str] = Counter()
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Front:
        self.background = Background("front")
        self.up()
        return self

    def __exit__(self, *error: object) -> None:
        self.down()
        self.background.stop()

    def up(self) -> None:
        """Listen."""
        listening = asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.server = self.background.run(listening)

    def down(self) -> None:
        """As if killed: connections are refused."""
        self.background.run(self._close())

    async def _close(self) -> None:
        self.server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            fault = next(self.faults)
            self.seen[fault] += 1
            await getattr(self, f"_{fault}")(head, reader, writer)
            await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def _ok(
        self, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        try:
            back, forth = await asyncio.open_connection("127.0.0.1", self.upstream)
        except OSError:
            return await self._reset(head, reader, writer)
        # One request per connection, so that each gets a turn of its own.
        forth.write(re.sub(rb"(?i)\r\nconnection: [^\r]*", b"\r\nConnection: close", head))

        async def copy() -> None:
            while data := await reader.read(65536):
                forth.write(data)

        copying = asyncio.create_task(copy())
        while data := await back.read(65536):
            writer.write(data)
        copying.cancel()
        forth.close()

    async def _reset(self, head: bytes, reader: Any, writer: asyncio.StreamWriter) -> None:
        at_once = struct.pack("ii", 1, 0)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, at_once)
        writer.transport.abort()

    async def _hang(self, head: bytes, reader: Any, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(HANG)

    async def _garbage(self, head: bytes, reader: Any, writer: asyncio.StreamWriter) -> None:
        writer.write(os.urandom(2000))

    async def _endless(self, head: bytes, reader: Any, writer: asyncio.StreamWriter) -> None:
        writer.write(ANSWER % b"200 OK" + b"\r\n")
        while True:
            writer.write(b"[" * 65536)
            await writer.drain()

    async def _said(
        self, status: bytes, body: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        writer.write(ANSWER % status + b"Content-Length: %d\r\n\r\n" % len(body) + body)
        await writer.drain()
        await asyncio.sleep(0.2)  # or what the client still sends would reset the connection

    async def _error(self, head: bytes, reader: Any, writer: Any) -> None:
        await self._said(b"500 Internal Server Error", b"{}", reader, writer)

    async def _busy(self, head: bytes, reader: Any, writer: Any) -> None:
        await self._said(b"503 Service Unavailable\r\nRetry-After: 0.1", b"{}", reader, writer)

    async def _truncated(self, head: bytes, reader: Any, writer: Any) -> None:
        await self._said(b"200 OK", b'{"values": [0.5, 0.', reader, writer)

    async def _nan(self, head: bytes, reader: Any, writer: Any) -> None:
        await self._said(b"200 OK", b'{"values": [NaN, Infinity, 1e999, 0.5]}', reader, writer)

    async def _few(self, head: bytes, reader: Any, writer: Any) -> None:
        await self._said(b"200 OK", b'{"values": [0.5]}', reader, writer)


class Answering:
    """Says the same bytes to every request; a context manager that gives its address."""

    def __init__(self, answer: bytes) -> None:
        self.answer = answer

    def __enter__(self) -> str:
        self.background = Background("answering")
        self.server = self.background.run(asyncio.start_server(self._serve, "127.0.0.1", 0))
        return f"http://127.0.0.1:{self.server.sockets[0].getsockname()[1]}"

    def __exit__(self, *error: object) -> None:
        self.background.loop.call_soon_threadsafe(self.server.close)
        self.background.stop()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(self.answer)
        await writer.drain()
        await asyncio.sleep(0.2)  # or what the client still sends would reset the connection
        writer.close()
