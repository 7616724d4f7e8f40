"""Fixtures for tests of whole runs; see `runs`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import runs
import tiny


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the tiny pipeline."""
    folder = tmp_path_factory.mktemp("tiny") / "model"
    tiny.tiny_pipeline().save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def launches(tmp_path_factory: pytest.TempPathFactory) -> Iterator[runs.Launches]:
    """Starts runs in other processes, to be killed."""
    with runs.Launches(tmp_path_factory.mktemp("launches") / "log.txt") as helper:
        yield helper
