"""A reward that fails is missing, never 0; tables come back in the order of samples."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from rolling import some_tasks

from likewise.rewards.function import FunctionReward
from likewise.rollout.scoring import Scores, join_scores, score_images, to_pil


class Answers:
    """A reward that answers what it is told to."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer

    def score(self, images: Any, tasks: Any) -> Any:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer(images, tasks) if callable(self.answer) else self.answer


def made_up(count: int = 3) -> list[Image.Image]:
    return [Image.new("RGB", (2, 2), (10 * n, 0, 0)) for n in range(count)]


def ask(**answers: Any) -> Scores:
    rewards = {name: Answers(answer) for name, answer in answers.items()}
    return score_images(rewards, made_up(), some_tasks(3))


GOOD = (torch.tensor([1.0, 2.0, 3.0]), torch.tensor([True, True, True]))


def test_answers_are_taken_as_they_are() -> None:
    scores = ask(a=GOOD, b=(torch.tensor([4.0, 5.0, 6.0]), torch.tensor([True, False, True])))
    assert scores.values.tolist() == [[1, 2, 3], [4, 0, 6]]
    assert scores.valid.tolist() == [[True] * 3, [True, False, True]]
    assert scores.values.dtype == torch.float32 and scores.valid.dtype == torch.bool
    assert scores.failures == {}


def test_images_meet_their_own_tasks() -> None:
    def reward(images: list[Image.Image], tasks: list[Any]) -> list[float]:
        return [image.getpixel((0, 0))[0] + len(task.prompt) for image, task in
                zip(images, tasks, strict=True)]  # fmt: skip

    scores = score_images({"own": FunctionReward(reward)}, made_up(), some_tasks(3))
    expected = [10 * n + len(task.prompt) for n, task in enumerate(some_tasks(3))]
    assert scores.values.tolist() == [expected]


ok = torch.ones(3, dtype=torch.bool)


@pytest.mark.parametrize(
    "answer, reason",
    [
        (RuntimeError("no memory"), "RuntimeError: no memory"),
        (None, r"TypeError: .*must return \(values, valid\)"),
        (torch.ones(3), "TypeError"),
        ([torch.ones(3), ok], "TypeError"),
        ((torch.ones(3),), "TypeError"),
        ((torch.ones(3), ok, ok), "TypeError"),
        ((torch.ones(2), ok), r"ValueError: values are \[2\] and valid \[3\] for 3 images"),
        ((torch.ones(3), ok[:2]), "ValueError"),
        ((torch.ones(3, 1), ok), "ValueError"),
        ((torch.ones(()), ok), "ValueError"),
        (([1.0, None, 2.0], ok), "Error: .*NoneType"),
        ((["a", "b", "c"], ok), "Error"),
    ],
)
def test_a_call_that_fails_is_missing_and_says_why(answer: Any, reason: str) -> None:
    scores = ask(before=GOOD, bad=answer, after=GOOD)
    assert scores.valid.tolist() == [[True] * 3, [False] * 3, [True] * 3]
    assert scores.values[[0, 2]].tolist() == [[1, 2, 3]] * 2
    assert list(scores.failures) == ["bad"]
    with pytest.raises(AssertionError, match=reason):
        raise AssertionError(scores.failures["bad"])


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_a_value_that_is_not_finite_is_missing_for_its_image(bad: float) -> None:
    scores = ask(a=(torch.tensor([1.0, bad, 3.0]), ok))
    assert scores.valid.tolist() == [[True, False, True]]
    assert scores.values.tolist() == [[1, 0, 3]]
    assert scores.failures == {}


def test_numbers_of_other_kinds_become_float32() -> None:
    answers: list[tuple[Any, Any]] = [
        ([1, 2, 3], [1, 1, 0]),
        (np.array([1.0, 2.0, 3.0]), np.array([True, True, False])),
        (torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64, requires_grad=True), ok.clone()),
    ]
    for answer in answers:
        scores = ask(a=answer)
        assert scores.failures == {} and scores.values.dtype == torch.float32
        assert scores.values[0, :2].tolist() == [1, 2]
        assert not scores.values.requires_grad
    assert ask(a=answers[0]).valid.tolist() == [[True, True, False]]
    huge = torch.tensor([1e300, 1.0, 1.0], dtype=torch.float64)
    assert ask(a=(huge, ok)).valid.tolist() == [[False, True, True]]


# ── joining ──


def part(indices: list[int], failures: dict[str, str] | None = None) -> tuple[list[int], Scores]:
    values = torch.tensor([indices, [-index for index in indices]], dtype=torch.float32)
    valid = torch.tensor([[index % 2 == 0 for index in indices], [True] * len(indices)])
    return indices, Scores(values, valid, failures or {})


def test_joining_restores_the_order_of_samples() -> None:
    whole = join_scores([part([5, 1]), part([0]), part([]), part([2, 4, 3])])
    assert whole.values.tolist() == [[0, 1, 2, 3, 4, 5], [0, -1, -2, -3, -4, -5]]
    assert whole.valid[0].tolist() == [True, False] * 3
    assert whole.valid[1].all()


def test_the_first_failure_of_each_reward_stands_for_all() -> None:
    shares = [part([1]), part([0], {"a": "first"}), part([2], {"a": "second", "b": "only"})]
    assert join_scores(shares).failures == {"a": "first", "b": "only"}


# ── images ──


def test_images_are_rounded_to_the_nearest() -> None:
    values = torch.tensor([0.0, 0.4 / 255, 0.6 / 255, 127.4 / 255, 127.6 / 255, 1.0])
    (image,) = to_pil(values.expand(1, 3, 1, 6))
    assert image.mode == "RGB" and image.size == (6, 1)
    assert np.asarray(image)[0, :, 1].tolist() == [0, 0, 1, 127, 128, 255]


def test_channels_rows_and_columns_keep_their_order() -> None:
    pixels = torch.zeros(3, 4, 5)
    pixels[2, 1, 3] = 1
    batch: list[Callable[[], Any]] = [lambda: pixels[None], lambda: [pixels]]
    for make in batch:
        (image,) = to_pil(make())
        assert image.size == (5, 4) and image.getpixel((3, 1)) == (0, 0, 255)
    assert to_pil([]) == []
    every = torch.arange(256).div(255).expand(3, 1, 256)
    assert np.asarray(to_pil([every])[0])[0, :, 0].tolist() == list(range(256))
