"""What a run ran on: versions, commit, command line; nothing that identifies a person or host."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path, PurePath
from typing import Any

from likewise import __version__

PACKAGES = (
    *("accelerate", "diffusers", "numpy", "peft", "pillow", "pyarrow", "pydantic"),
    *("safetensors", "tokenizers", "torch", "transformers"),
)
PACKAGE = Path(__file__).parents[1]
ABSOLUTE = re.compile(r"(?<![\w.:/~-])[/~][^=:,\[\]\"']*/")  # up to the last slash of a path


def collect_environment() -> dict[str, Any]:
    """Versions (None: not installed), machine, commit (None: no checkout), command, start (UTC).

    Absolute paths in the command line are cut to their last part. Does not import torch.
    """
    return {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": command_line(sys.argv),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "machine": platform.machine(),
        "cpu_count": os.cpu_count(),
        "versions": {"likewise": __version__} | {name: _version(name) for name in PACKAGES},
        "git": git_state(PACKAGE),
    }


def command_line(arguments: Sequence[str]) -> list[str]:
    """`arguments` without the folders of absolute paths."""
    program, *others = arguments or [""]
    return [PurePath(program).name, *map(without_folders, others)]


def without_folders(text: str) -> str:
    """`text` with absolute paths cut to their last part: folders may name a person."""
    return "\n".join(ABSOLUTE.sub("", line) for line in text.split("\n"))


def git_state(package: Path) -> dict[str, Any] | None:
    """Commit of the checkout that `package` is `src/<name>` of, and whether `package` differs.

    None without git, or if the package is installed elsewhere, for example in an environment
    inside somebody else's checkout.
    """
    if _git(package, "rev-parse", "--show-prefix") != f"src/{package.name}/":
        return None
    commit = _git(package, "rev-parse", "--verify", "HEAD")
    changes = _git(package, "status", "--porcelain", "--", ".")
    if commit is None or changes is None:
        return None
    return {"commit": commit, "dirty": bool(changes)}


def _git(folder: Path, *arguments: str) -> str | None:
    # Inside a git hook these variables point at another repository.
    environment = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    try:
        done = subprocess.run(
            ["git", "--no-optional-locks", *arguments],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
