"""Run the application on a port, for this machine or for every client with the token."""

from __future__ import annotations

import ipaddress
import os
from types import FrameType

import uvicorn
from fastapi import FastAPI
from starlette.types import ASGIApp

from likewise.serve.connections import BACKLOG, ensure_descriptors, protocol
from likewise.serve.limits import Limits
from likewise.serve.logs import keep_short

TOKEN = "LIKEWISE_SERVICE_TOKEN"  # name of the environment variable
SHORTEST = 16  # characters; `openssl rand -hex 32` makes 64


def read_token(host: str) -> str | None:
    """The token of the environment; None where there is none and none is needed.

    Raises:
        ValueError: it is too short or cannot be sent, or others than this machine can reach `host`
            and there is none.
    """
    token = os.environ.get(TOKEN)
    if token is None:
        if not is_loopback(host):
            raise ValueError(
                f"--host {host} is open to other machines: put a token into the environment "
                f"variable {TOKEN} (openssl rand -hex 32), here and where training runs"
            )
        return None
    if len(token) < SHORTEST or not token.isascii() or not token.isprintable() or " " in token:
        raise ValueError(f"{TOKEN} should hold {SHORTEST} printable characters or more, no spaces")
    return token


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class Server(uvicorn.Server):
    """uvicorn's, which a second signal ends at once, whatever the reward is doing."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self.should_exit:
            os._exit(128 + sig)  # threads of the reward cannot be ended in any other way
        super().handle_exit(sig, frame)


def make_server(app: ASGIApp, host: str, port: int, limits: Limits) -> Server:
    """The server of an application, with bounded connections and a log that stays short."""
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        http=protocol(limits),
        ws="none",
        backlog=BACKLOG,
        access_log=False,
        server_header=False,
    )
    keep_short()
    return Server(config)


def run(app: FastAPI, host: str, port: int, limits: Limits) -> None:
    """Until SIGTERM or Ctrl-C: then no connection is accepted, and what was accepted is answered.

    A second signal ends it at once, with exit code 128 + its number.

    Raises:
        ValueError: the system does not allow so many connections.
    """
    ensure_descriptors(limits.connections)
    make_server(app, host, port, limits).run()
