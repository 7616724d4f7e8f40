"""A tiny study, and `likewise compare` as a process whose units are the stand-in's."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

STANDIN = Path(__file__).parents[1] / "study" / "standin.py"
COMPARE = """
import sys
from likewise.study import process

process.LIKEWISE = (sys.executable, sys.argv.pop(1))
from likewise.cli import app

app()
"""
STUDY = """
name: tiny
overrides: {run.iterations: 3, run.trackers: []}
seeds: [0, 1]
arms:
  ours: {recipe: stickers, label: ours}
  naive: {recipe: stickers-naive}
baseline: naive
evaluation: {tasks: 5}
workers: 2
"""


def write_study(folder: Path, text: str = STUDY) -> Path:
    file = folder / "tiny.yaml"
    file.write_text(text, encoding="utf-8")
    return file


def start(study: Path, out: Path, *words: str, **environment: str) -> subprocess.Popen[str]:
    """`likewise compare` with units that take no time, unless `environment` says so."""
    command = [sys.executable, "-c", COMPARE, str(STANDIN), "compare", str(study)]
    return subprocess.Popen(
        [*command, "--out", str(out), *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, **environment},
    )


def finish(study: Path, out: Path, *words: str, **environment: str) -> tuple[int, str]:
    """:func:`start`, until it ends: exit code, and output as one line."""
    return ended(start(study, out, *words, **environment))


def ended(process: subprocess.Popen[str], timeout: float = 120) -> tuple[int, str]:
    output, _ = process.communicate(timeout=timeout)
    return process.returncode, " ".join(output.split())


def results(out: Path) -> dict[str, Any]:
    return json.loads((out / "results.json").read_text(encoding="utf-8"))


def timeless(out: Path) -> dict[str, Any]:
    """Results without what depends on the study's folder, and on how busy the machine was."""
    found = results(out)
    del found["commands"]
    for arm in found["arms"].values():
        del arm["overhead"]
    return found


def until(reached: Callable[[], bool], process: subprocess.Popen[str], timeout: float = 60) -> None:
    deadline = time.monotonic() + timeout
    while not reached():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.02)


def of_study(out: Path) -> list[psutil.Process]:
    """Processes that work on this study."""
    found = []
    for process in psutil.process_iter(["cmdline", "status"]):
        words = process.info["cmdline"] or []
        if process.info["status"] != psutil.STATUS_ZOMBIE and any(str(out) in w for w in words):
            found.append(process)
    return found
