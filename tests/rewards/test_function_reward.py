"""A function of the user's own as a reward: what it may return, and how it is found."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from rolling import some_tasks

from likewise import protocols
from likewise.rewards.function import FunctionReward

NAN = float("nan")


def score(answer: Any, count: int = 3) -> tuple[list[float], list[bool]]:
    images = [Image.new("RGB", (2, 2))] * count
    reward = FunctionReward(lambda images, tasks: answer)
    assert isinstance(reward, protocols.Reward)
    values, valid = reward.score(images, some_tasks(count))
    assert values.dtype == torch.float32 and valid.dtype == torch.bool
    assert not values.requires_grad
    return values.tolist(), valid.tolist()


@pytest.mark.parametrize(
    "answer",
    [
        [1, 2, 3],
        [1.0, 2.0, 3.0],
        (1.0, 2.0, 3.0),
        np.array([1, 2, 3]),
        np.array([1.0, 2.0, 3.0], dtype=np.float64),
        torch.tensor([1, 2, 3]),
        torch.tensor([1.0, 2.0, 3.0], dtype=torch.bfloat16),
        torch.tensor([1.0, 2.0, 3.0], requires_grad=True),
        [np.float32(1), torch.tensor(2.0), 3],
    ],
)
def test_numbers_of_any_kind(answer: Any) -> None:
    assert score(answer) == ([1, 2, 3], [True] * 3)


@pytest.mark.parametrize("missing", [None, NAN, float("inf"), -float("inf")])
def test_none_and_nan_mean_nothing_to_say(missing: float | None) -> None:
    values, valid = score([1.0, missing, 3.0])
    assert valid == [True, False, True] and (values[0], values[2]) == (1, 3)


def test_all_may_be_missing() -> None:
    assert score([None, None, None])[1] == [False] * 3
    assert score(torch.full((3,), NAN))[1] == [False] * 3


@pytest.mark.parametrize("wrap", [list, np.array, torch.tensor])
def test_the_pair_of_the_protocol(wrap: Any) -> None:
    answer = (wrap([1.0, NAN, 3.0]), wrap([True, True, False]))
    values, valid = score(answer)
    assert valid == [True, False, False] and values[0] == 1


# ── two images: is a tuple of two a pair (values, valid), or two values? ──


def test_a_tuple_of_two_numbers_is_two_values() -> None:
    assert score((0.25, 0.5), 2) == ([0.25, 0.5], [True, True])
    assert score((None, 0.5), 2)[1] == [False, True]
    assert score((torch.tensor(0.25), torch.tensor(0.5)), 2) == ([0.25, 0.5], [True, True])
    assert score((1, 0), 2) == ([1, 0], [True, True])


def test_a_tuple_of_two_rows_is_the_pair() -> None:
    pair = (torch.tensor([0.25, 0.5]), torch.tensor([True, False]))
    assert score(pair, 2) == ([0.25, 0.5], [True, False])
    assert score((np.array([0.25]), np.array([True])), 1) == ([0.25], [True])


@pytest.mark.parametrize(
    "answer",
    [
        [1.0, 2.0],
        [],
        0.5,
        None,
        [[1.0], [2.0], [3.0]],
        torch.ones(3, 1),
        (torch.ones(3), torch.ones(2)),
        (torch.ones(2), torch.ones(2)),
        (torch.ones(3, 1), torch.ones(3, 1)),
        ["high", "low", "low"],
    ],
)
def test_anything_else_is_refused(answer: Any) -> None:
    with pytest.raises(ValueError):
        score(answer)
    with pytest.raises((ValueError, TypeError)):
        score({"values": answer})


def test_the_message_says_what_was_wanted() -> None:
    with pytest.raises(ValueError, match=r"returned shape \[2\] for 3 images: wanted one number"):
        score([1, 2])


def test_errors_of_the_function_pass() -> None:
    def fail(images: Any, tasks: Any) -> None:
        raise OSError("disk")

    with pytest.raises(OSError, match="disk"):
        FunctionReward(fail).score([], [])


# ── loading ──


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a module in the working directory."""
    (tmp_path / "reward_of_mine.py").write_text(
        "limit = 3\ndef half(images, tasks):\n    return [0.5] * len(images)\n"
    )
    (tmp_path / "reward_that_fails.py").write_text("import no_such_package_at_all\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path])
    for name in ("reward_of_mine", "reward_that_fails"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return "reward_of_mine"


def test_a_function_of_the_working_directory_is_found(module: str) -> None:
    reward = FunctionReward.load(f"{module}:half")
    values, _ = reward.score([Image.new("RGB", (2, 2))] * 2, some_tasks(2))
    assert values.tolist() == [0.5, 0.5]
    FunctionReward.load(f"{module}:half")
    assert sys.path.count(str(Path.cwd())) == 1


def test_what_cannot_be_loaded_says_why(module: str) -> None:
    with pytest.raises(ImportError, match="no_such_module"):
        FunctionReward.load("no_such_module:half")
    with pytest.raises(ImportError, match="no_such_package_at_all"):
        FunctionReward.load("reward_that_fails:half")
    with pytest.raises(AttributeError, match="third"):
        FunctionReward.load(f"{module}:third")
    with pytest.raises(TypeError, match=f"{module}:limit is a int, not a function"):
        FunctionReward.load(f"{module}:limit")
