"""A signal drops what is under way and saves what was learned, at whatever moment it comes."""

from __future__ import annotations

import random
import signal
import threading
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import runs

import likewise.api.training
from likewise.api import resume, train
from likewise.config import Recipe
from likewise.config.rewards.endpoints import MOST_SECONDS
from likewise.records.checkpoints import CheckpointStore
from likewise.trainer.checks import TrainingError
from likewise.trainer.interrupts import Interrupts, never, unless_stopped
from likewise.trainer.learner import Learner

CALLS: list[int] = []  # images per call of `counted`


def counted(images: Any, tasks: Any) -> list[float]:
    CALLS.append(len(images))
    return runs.moody(images, tasks)


def recipe(model: Path, **run: Any) -> Recipe:
    """Two iterations with two updates each, and an evaluation after each of them."""
    return runs.tiny_recipe(
        model,
        rewards={
            "counted": {"kind": "function", "target": "test_stopping:counted", "side": "prompt"},
            "detail": runs.function("detail", "identity"),
        },
        rollout={"micro_batch": 3},
        optimizer={"learning_rate": 3e-3, "updates_per_iteration": 2, "ema_decay": 0.9},
        run={"iterations": 2, "evaluation": {"every": 1, "tasks": 2}, **run},
    )


class StopAt(Interrupts):
    """A signal that comes just before the run asks for the `last` time whether one came."""

    asked = 0

    def __init__(self, last: int) -> None:
        super().__init__()
        self.last = last

    def requested(self) -> bool:
        self.asked += 1
        if self.asked >= self.last:
            self.received = signal.SIGTERM
        return super().requested()


@pytest.fixture
def stop_at(monkeypatch: pytest.MonkeyPatch) -> Any:
    def stop(last: int) -> StopAt:
        found = StopAt(last)
        monkeypatch.setattr(likewise.api.training, "Interrupts", lambda: found)
        return found

    return stop


@pytest.mark.slow
def test_a_signal_at_any_moment_changes_nothing(
    stop_at: Any, tiny_model: Path, tmp_path: Path
) -> None:
    """Whether in a rollout, an update or an evaluation: once resumed, every byte is the same."""
    counter = stop_at(10**9)
    undisturbed = train(recipe(tiny_model), tmp_path / "undisturbed", quiet=True).run.path
    moments = [1, *random.Random(0).sample(range(2, counter.asked), 6)]
    for moment in moments:
        stop_at(moment)
        outcome = train(recipe(tiny_model), tmp_path / f"{moment}", quiet=True)
        newest = CheckpointStore(outcome.run.checkpoints, 1).newest()
        assert (outcome.iteration, outcome.signal) == (newest.iteration if newest else 0, 15)
        assert outcome.finished == (moment == counter.asked)
        stop_at(10**9)
        assert resume(outcome.run.path, quiet=True).finished
        assert runs.snapshot(outcome.run.path) == runs.snapshot(undisturbed), moment


def test_a_signal_in_a_rollout_drops_the_rest_of_it(
    stop_at: Any, tiny_model: Path, tmp_path: Path
) -> None:
    stop_at(2)
    CALLS.clear()
    silent = recipe(tiny_model, evaluation={"every": 0})
    outcome = train(silent, tmp_path / "run", quiet=True)
    assert outcome.iteration == 0 and CALLS == [3]  # of 8 images in 4 micro-batches


def test_a_wait_for_slow_rewards_ends_with_a_signal() -> None:
    hanging, stopped = threading.Event(), threading.Event()
    threading.Timer(0.2, stopped.set).start()
    began = time.monotonic()
    assert unless_stopped(lambda: hanging.wait(30), stopped.is_set) is None
    assert time.monotonic() - began < 10
    hanging.set()


def test_what_is_waited_for_arrives_whole() -> None:
    assert unless_stopped(lambda: [1, 2], never) == [1, 2]
    with pytest.raises(KeyError, match="gone"):
        unless_stopped(lambda: {}["gone"], never)


def test_other_processes_wait_longer_than_any_reward(
    stop_at: Any, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert recipe(tiny_model).run.timeout > 2 * MOST_SECONDS
    made: list[dict[str, Any]] = []
    make = likewise.api.training.Accelerator
    monkeypatch.setattr(
        likewise.api.training, "Accelerator", lambda **own: made.append(own) or make(**own)
    )
    stop_at(1)
    train(recipe(tiny_model, timeout=99), tmp_path / "run", quiet=True)
    assert [one.timeout for one in made[0]["kwargs_handlers"]] == [timedelta(seconds=99)]


def test_weights_that_are_not_finite_are_never_saved(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As an optimiser step out of float32's range leaves them."""
    step, steps = Learner.step, []

    def spoiling(self: Learner) -> float:
        norm = step(self)
        steps.append(norm)
        if len(steps) == 3:  # the first of iteration 2
            self.parameters[0].data.view(-1)[0] = float("inf")
        return norm

    monkeypatch.setattr(Learner, "step", spoiling)
    kept = recipe(tiny_model, iterations=4, evaluation={"every": 0}, checkpoints={"every": 1})
    with pytest.raises(TrainingError) as caught:
        train(kept, tmp_path / "run", quiet=True)
    message = str(caught.value)
    assert "iteration 2 made weights that are not finite" in message
    assert "the last good one is of iteration 1" in message
    newest = CheckpointStore(tmp_path / "run" / "checkpoints", 1).newest()
    assert newest is not None and newest.iteration == 1
