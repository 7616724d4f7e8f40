"""Messages of libraries that are dropped, and that others are not."""

from __future__ import annotations

import importlib.util
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from likewise.quiet import NOISE, hush_imports

# bitsandbytes and torchao come along where they are installed.
IMPORTS = "import diffusers, transformers; diffusers.FluxKontextPipeline; "
IMPORTS += "transformers.CLIPImageProcessor"


def test_python_users_hear_nothing_of_imports() -> None:
    """Commands: `cli/test_cli_terminal.py`."""
    code = f"import likewise.api; {IMPORTS}"
    environment = {name: value for name, value in os.environ.items() if "VERBOSITY" not in name}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("name", NOISE)
def test_what_is_dropped_is_what_the_library_says(name: str) -> None:
    """Else a new version of it has other words, and the row here is of no use."""
    package = importlib.util.find_spec(name.partition(".")[0])
    if package is None or package.origin is None:
        pytest.skip(f"{name} is not installed")
    folder = Path(package.origin).parent
    file = folder.joinpath(*name.split(".")[1:]).with_suffix(".py")
    source = folder / "__init__.py" if "." not in name else file
    assert NOISE[name] in source.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", NOISE)
def test_other_messages_are_shown(name: str, caplog: pytest.LogCaptureFixture) -> None:
    hush_imports()
    hush_imports()
    logger = logging.getLogger(name)
    logger.warning(f"some {NOISE[name]} thing")
    logger.warning("weights are not finite")
    logger.error("no kernel for this GPU")
    assert [record.message for record in caplog.records] == [
        "weights are not finite",
        "no kernel for this GPU",
    ]


def test_what_the_environment_says_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRANSFORMERS_VERBOSITY", "info")
    monkeypatch.delenv("DIFFUSERS_VERBOSITY", raising=False)
    hush_imports()
    assert os.environ["TRANSFORMERS_VERBOSITY"] == "info"
    assert os.environ.pop("DIFFUSERS_VERBOSITY") == "error"
