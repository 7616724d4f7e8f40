"""Fixtures and helpers of whole runs, as the trainer's tests have them."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "trainer"))  # for `runs`


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the tiny pipeline."""
    import tiny  # here, since Ray's test also runs where there is no torch

    folder = tmp_path_factory.mktemp("tiny") / "model"
    tiny.tiny_pipeline().save_pretrained(folder)
    return folder
