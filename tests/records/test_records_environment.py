"""The environment is complete, and says nothing about people and hosts."""

from __future__ import annotations

import getpass
import json
import shutil
import socket
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from likewise.records import collect_environment
from likewise.records.environment import command_line, git_state


def test_environment(monkeypatch) -> None:
    monkeypatch.setattr(sys, "argv", ["/home/alice/bin/likewise", "train", "--run-dir", "/data/x"])
    environment = collect_environment()
    assert environment["command"] == ["likewise", "train", "--run-dir", "x"]
    assert environment["versions"]["numpy"] == np.__version__
    assert {"likewise", "torch", "diffusers", "peft"} <= environment["versions"].keys()
    assert environment["python"] == ".".join(map(str, sys.version_info[:3]))
    started = datetime.fromisoformat(environment["started"])
    assert started.tzinfo is not None and abs((datetime.now(UTC) - started).total_seconds()) < 60
    text = json.dumps(environment)
    assert str(Path.home()) + "/" not in text and socket.gethostname() not in text
    assert getpass.getuser() not in environment["command"]


@pytest.mark.parametrize(
    ("argument", "kept"),
    [
        ("paper", "paper"),
        ("runs/one", "runs/one"),
        ("../one", "../one"),
        ("/home/alice/one.yaml", "one.yaml"),
        ("--run-dir=/home/alice/runs/one", "--run-dir=one"),
        ("policy.model=/data/models/flux", "policy.model=flux"),
        ("policy.model=black-forest-labs/FLUX.1", "policy.model=black-forest-labs/FLUX.1"),
        ("~/one", "one"),
        ("~alice/runs/one", "one"),
        ("/home/Alice B/one", "one"),
        ("x=[/a/b,/c/d]", "x=[b,d]"),
        ("https://example.org/model", "https://example.org/model"),
        ("~optimizer.betas", "~optimizer.betas"),
        ("lr=1e-4", "lr=1e-4"),
    ],
)
def test_command_line_has_no_absolute_paths(argument: str, kept: str) -> None:
    assert command_line(["/usr/bin/likewise", argument]) == ["likewise", kept]


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    done = subprocess.run(
        ["git", *identity, *arguments], cwd=folder, check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_git_state(tmp_path: Path, monkeypatch) -> None:
    package = tmp_path / "src" / "likewise"
    package.mkdir(parents=True)
    (package / "a.py").write_text("")
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert git_state(package) is None  # no checkout
    git(tmp_path, "init", "-q")
    assert git_state(package) is None  # no commit
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-q", "-m", "first")
    clean = {"commit": git(tmp_path, "rev-parse", "HEAD"), "dirty": False}
    monkeypatch.setenv("GIT_DIR", "/nowhere")  # as in a hook
    assert git_state(package) == clean
    (tmp_path / "notes.md").write_text("beside the package")
    assert git_state(package) == clean
    (package / "b.py").write_text("new")
    assert git_state(package) == clean | {"dirty": True}
    # An installed package inside somebody else's checkout is not a checkout of likewise.
    installed = tmp_path / ".venv" / "likewise"
    installed.mkdir(parents=True)
    assert git_state(installed) is None
    monkeypatch.setenv("PATH", "/nowhere")
    assert git_state(package) is None
