"""Numbers that leave float16's range, and sums in the same order wherever that is asked for."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import runs
import torch
from torch.amp import GradScaler

from likewise.api import train
from likewise.config.learning import Optimizer
from likewise.trainer.kernels import CUBLAS, deterministic
from likewise.trainer.learner import Learner

SEEN: list[bool] = []


def looks_around(images: Any, tasks: Any) -> list[float]:
    SEEN.append(torch.are_deterministic_algorithms_enabled())
    assert not torch.backends.cuda.cudnn_sdp_enabled()  # its gradients are NaN on some GPUs
    return runs.red(images, tasks)


def test_an_overflow_costs_no_iteration(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However far too large the first loss scale is."""
    monkeypatch.setattr(
        torch.amp, "GradScaler", lambda device, **own: GradScaler(device, 2.0**40, **own)
    )
    half = runs.tiny_recipe(
        tiny_model, policy={"dtype": "float16"}, run={"iterations": 1, "patience": 1}
    )
    (row,) = train(half, tmp_path / "run", quiet=True).run.read_metrics()
    assert (row["update/steps"], row["update/skipped"]) == (1, 0)
    assert row["update/ratio_deviation"] == 0


def test_only_an_overflow_of_float16_is_worth_another_try() -> None:
    def learner(half: bool) -> Learner:
        return Learner([torch.nn.Parameter(torch.ones(2))], Optimizer(), 20, half)

    assert learner(True).overflowed(float("nan")) and learner(True).overflowed(float("inf"))
    assert not learner(True).overflowed(1.0) and not learner(False).overflowed(float("nan"))


def test_a_run_asks_for_deterministic_algorithms(tiny_model: Path, tmp_path: Path) -> None:
    rewards = {
        "here": {"kind": "function", "target": "test_precision:looks_around", "side": "prompt"},
        "detail": runs.function("detail", "identity"),
    }
    for asked in (True, False):
        SEEN.clear()
        short = {"iterations": 1, "deterministic": asked}
        train(runs.tiny_recipe(tiny_model, rewards=rewards, run=short), tmp_path / f"{asked}")
        assert SEEN and set(SEEN) == {asked}
    assert torch.backends.cuda.cudnn_sdp_enabled()
    assert not torch.are_deterministic_algorithms_enabled()


def test_what_deterministic_switches_it_switches_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(CUBLAS, raising=False)
    with pytest.raises(KeyError), deterministic(True):
        assert torch.are_deterministic_algorithms_enabled()
        assert os.environ[CUBLAS] == ":4096:8"
        raise KeyError
    assert not torch.are_deterministic_algorithms_enabled()
