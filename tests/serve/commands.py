"""`likewise serve-reward` in processes of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
from serving import free_port, wait_for

ROOT = Path(__file__).parents[2]
PLAIN = "from likewise.cli import app\napp()"


def start(
    *words: str, folder: Path = ROOT, code: str = PLAIN, **environment: str
) -> subprocess.Popen[str]:
    """A command, with our search path; stderr goes to stdout."""
    paths = {"PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path))}
    return subprocess.Popen(
        [sys.executable, "-c", code, *words],
        cwd=folder,
        env={**os.environ, **paths, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def wait_until_healthy(process: subprocess.Popen[str], url: str) -> None:
    """Or until it has ended."""
    wait_for(lambda: process.poll() is not None or healthy(url), 120)


@contextmanager
def command(
    *words: str, folder: Path = ROOT, code: str = PLAIN, **environment: str
) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The command, and the address that it serves."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    process = start(*words, "--port", str(port), folder=folder, code=code, **environment)
    try:
        wait_until_healthy(process, url)
        yield process, url
    finally:
        process.kill()
        process.wait(30)


def healthy(url: str) -> bool:
    try:
        return httpx2.get(f"{url}/health", trust_env=False).status_code == 200
    except httpx2.TransportError:
        return False
