"""Run the application on a port, for everyone on this machine or for everyone with the token."""

from __future__ import annotations

import ipaddress
import os

import uvicorn
from fastapi import FastAPI

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


def run(app: FastAPI, host: str, port: int) -> None:
    """Until SIGTERM or Ctrl-C: then no connection is accepted, and what was accepted is answered.

    A second signal ends it at once.
    """
    uvicorn.run(app, host=host, port=port, access_log=False, server_header=False)
