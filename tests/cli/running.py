"""What the tests of the command share: how to run it, and the smallest real run."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from likewise.cli import app

TINY = [
    *("stickers", "rollout.tasks=1", "rollout.group_size=2", "rollout.num_steps=3"),
    *("run.iterations=1", "run.processes=1", "run.device=cpu", "run.evaluation.every=0"),
    "run.trackers=[]",
]


def run(*words: str | Path) -> Result:
    """The command in this process; `output` holds stdout and stderr."""
    return CliRunner().invoke(app, [str(word) for word in words])


def said(result: Result) -> str:
    """The output as one line: consoles break lines where they like."""
    return " ".join(result.output.split())


def start(*words: str | Path) -> subprocess.Popen[str]:
    """The command as a process of its own; stderr goes to stdout."""
    return subprocess.Popen(
        [sys.executable, "-m", "likewise", *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one iteration. Tests must not change it."""
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    result = run("train", *TINY, "--run-dir", folder)
    assert result.exit_code == 0, result.output
    return folder
