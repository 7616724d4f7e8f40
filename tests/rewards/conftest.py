"""Tiny encoders for the tests of rewards, made once."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny_encoders import save_encoders


@pytest.fixture(scope="session")
def encoders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a randomly initialised directory per kind of encoder."""
    folder = tmp_path_factory.mktemp("encoders")
    save_encoders(folder)
    return folder
