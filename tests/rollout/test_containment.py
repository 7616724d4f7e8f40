"""Whatever a reward does stays its own: how it fails, and what it switches in torch."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from PIL import Image
from rolling import some_tasks

from likewise.rewards.function import FunctionReward
from likewise.rollout.groups import compare_groups
from likewise.rollout.scoring import Scores, score_images
from likewise.trainer.interrupts import Interrupts


def ask(bad: Callable[..., Any]) -> Scores:
    """Asks a bad reward, and then a good one."""
    images = [Image.new("RGB", (2, 2))] * 2
    good = FunctionReward(lambda images, tasks: [1.0, 2.0])
    return score_images({"bad": FunctionReward(bad), "good": good}, images, some_tasks(2))


def interrupted(images: Any, tasks: Any) -> None:
    raise KeyboardInterrupt("from a library")


@pytest.mark.parametrize(
    ("bad", "failure"),
    [
        (lambda images, tasks: sys.exit(1), "SystemExit: 1"),
        (lambda images, tasks: sys.exit("no licence"), "SystemExit: no licence"),
        (interrupted, "KeyboardInterrupt: from a library"),
    ],
)
def test_a_reward_that_leaves_is_missing(bad: Callable[..., Any], failure: str) -> None:
    with Interrupts():  # as in a run
        scores = ask(bad)
    assert scores.failures == {"bad": failure}
    assert scores.valid.tolist() == [[False, False], [True, True]]


@pytest.fixture
def python_handles_ctrl_c() -> Iterator[None]:
    """As in a new process, whatever other tests have left."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("python_handles_ctrl_c")
@pytest.mark.parametrize("handled", [True, False])
def test_a_ctrl_c_of_the_user_still_ends_the_program(handled: bool) -> None:
    """Where a run handles SIGINT it is the second one; elsewhere the first."""

    def presses(images: Any, tasks: Any) -> list[float]:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(1)
        return [0.0] * len(images)

    with pytest.raises(KeyboardInterrupt):
        if not handled:
            ask(presses)
        with Interrupts():
            assert ask(presses).failures == {}
            ask(presses)


def test_gradients_and_dtype_are_as_they_were() -> None:
    def careless(images: Any, tasks: Any) -> list[float]:
        torch.set_grad_enabled(False)
        torch.set_default_dtype(torch.float64)
        return [0.0] * len(images)

    ask(careless)
    assert torch.is_grad_enabled() and torch.get_default_dtype() == torch.float32


def test_a_comparison_that_leaves_is_missing() -> None:
    class Leaves:
        def embed(self, images: Any) -> torch.Tensor:
            return torch.ones(len(images), 3)

        def compare(self, group: torch.Tensor) -> torch.Tensor:
            torch.set_grad_enabled(False)
            return sys.exit(2)

    images, rewards = [Image.new("RGB", (2, 2))] * 2, {"group": Leaves()}
    found = compare_groups(rewards, score_images(rewards, images, some_tasks(2)), 2)
    assert found.failures == {"group": "SystemExit: 2"} and not found.valid.any()
    assert torch.is_grad_enabled()
