"""Helpers of studies without humans, and of servers in a thread, as their own tests have them."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

for folder in ("people", "serve", "report"):  # for `voting`, `serving` and `made_up`
    sys.path.append(str(Path(__file__).parents[1] / folder))


@pytest.fixture(autouse=True)
def _installed() -> None:
    pytest.importorskip("starlette", reason="the extra `app` is not installed")
