"""Half-sent requests, too many connections, and what the log says of them."""

from __future__ import annotations

import logging
import resource
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import Any

import httpx2
import pytest

pytest.importorskip("fastapi")
from PIL import Image
from serving import document, make_image, mean, parts, png, row, served, wait_for

from likewise.serve.app import create_app
from likewise.serve.connections import ensure_descriptors
from likewise.serve.limits import Limits
from likewise.serve.logs import Repeats
from likewise.types import Task

TOKEN = "0123456789abcdef-a-secret"
HALF_HEAD = b"POST /score HTTP/1.1\r\nHost: x\r\nX-Slow: "
NO_BODY = b"POST /score HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n\r\n"
NO_PATH = b"POST /nowhere HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n\r\n"


def post(url: str, **more: Any) -> httpx2.Response:
    files = parts(document([row(**more)]), png(make_image(1)))
    headers = {"Authorization": f"Bearer {TOKEN}"}
    return httpx2.post(f"{url}/score", files=files, headers=headers, trust_env=False, timeout=60)


@contextmanager
def strangers(url: str, count: int, said: bytes) -> Iterator[list[socket.socket]]:
    """So many connections on which somebody said something and then nothing more."""
    port = int(url.rsplit(":", 1)[1])
    with ExitStack() as stack:
        lines = []
        for _ in range(count):
            line = socket.create_connection(("127.0.0.1", port), timeout=30)
            lines.append(stack.enter_context(line))
            line.sendall(said)
        yield lines


def closed_after(line: socket.socket) -> float:
    """Seconds until the other side closes; what it says before is dropped."""
    begun = time.monotonic()
    try:
        while line.recv(4096):
            pass
    except ConnectionResetError:
        pass
    return time.monotonic() - begun


@pytest.mark.parametrize("said", [b"", HALF_HEAD, NO_BODY, NO_PATH])
def test_strangers_do_not_shut_out_who_has_the_token(said: bytes) -> None:
    limits = Limits(connections=8)
    with (
        served(create_app(mean, token=TOKEN, limits=limits), limits=limits) as url,
        strangers(url, 30, said),
    ):
        begun = time.monotonic()
        for _ in range(3):
            assert post(url).status_code == 200
        assert time.monotonic() - begun < 5


def test_who_has_the_token_is_not_replaced() -> None:
    gate = threading.Event()

    def reward(images: Sequence[Image.Image], tasks: Sequence[Task]) -> list[float]:
        gate.wait(60)
        return mean(images, tasks)

    limits = Limits(connections=3)
    with (
        served(create_app(reward, token=TOKEN, limits=limits), limits=limits) as url,
        ThreadPoolExecutor(2) as pool,
        httpx2.Client(trust_env=False) as client,  # has the third connection, and shows no token
    ):
        asked = [pool.submit(post, url) for _ in range(2)]
        wait_for(lambda: client.get(f"{url}/health").json()["requests"] == 2)
        with strangers(url, 10, NO_BODY) as lines:
            assert all(closed_after(line) < 10 for line in lines[:-1])
            gate.set()
            assert [one.result(60).status_code for one in asked] == [200, 200]


@pytest.mark.parametrize("before", [b"", b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"])
def test_headers_have_to_arrive_in_time(before: bytes) -> None:
    """Also those of a second request on a connection; the first is answered."""
    limits = Limits(header_seconds=0.5)
    with (
        served(create_app(mean, limits=limits), limits=limits) as url,
        strangers(url, 1, before) as (line,),
    ):
        if before:
            assert line.recv(4096).startswith(b"HTTP/1.1 200 ")
        line.sendall(HALF_HEAD)
        assert closed_after(line) < 4  # an idle connection would be kept for 5 s
        assert httpx2.get(f"{url}/health", trust_env=False).status_code == 200


def test_a_slow_reward_does_not_count_as_slow_headers() -> None:
    def reward(images: Sequence[Image.Image], tasks: Sequence[Task]) -> list[float]:
        time.sleep(1)
        return mean(images, tasks)

    limits = Limits(header_seconds=0.3)
    with served(create_app(reward, token=TOKEN, limits=limits), limits=limits) as url:
        assert post(url).status_code == 200


# ── the log ──


def said(filter_: Repeats, *messages: str) -> list[str]:
    records = [logging.LogRecord("x", logging.WARNING, "x", 1, one, (), None) for one in messages]
    return [record.getMessage() for record in records if filter_.filter(record)]


def test_the_log_counts_what_it_has_said() -> None:
    now = [0.0]
    repeats = Repeats(60, lambda: now[0])
    assert said(repeats, *["bad request"] * 500, "other") == ["bad request", "other"]
    now[0] = 59.9
    assert said(repeats, "bad request") == []
    now[0] = 60.0
    assert said(repeats, "bad request", "bad request") == ["bad request (500 more like it before)"]
    now[0] = 120.0
    assert said(repeats, "bad request") == ["bad request (1 more like it before)"]


def test_many_messages_do_not_fill_the_memory() -> None:
    repeats = Repeats(60, lambda: 0.0)
    said(repeats, *[f"message {number}" for number in range(10_000)])
    assert len(repeats.seen) <= 256


def test_a_service_does_not_log_each_bad_request(caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger("uvicorn.error")
    for one in [one for one in logger.filters if isinstance(one, Repeats)]:
        one.seen.clear()
    with served(create_app(mean)) as url:
        logger.addHandler(caplog.handler)
        try:
            for _ in range(50):
                with strangers(url, 1, b"\x16\x03\x01\x02\x00\x01\r\n\r\n") as (line,):
                    closed_after(line)
        finally:
            logger.removeHandler(caplog.handler)
    bad = [one for one in caplog.records if "Invalid HTTP" in one.getMessage()]
    assert len(bad) == 1


# ── descriptors ──


def test_a_service_may_open_its_connections() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(600, hard), hard))
        ensure_descriptors(256)
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] >= 256 + 256
        if hard != resource.RLIM_INFINITY:
            with pytest.raises(ValueError, match="--max-connections"):
                ensure_descriptors(hard)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
