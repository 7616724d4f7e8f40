"""Gradients of all processes add up in place, in messages of a limited size."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from likewise.trainer.reducing import sum_gradients


def parameters() -> list[nn.Parameter]:
    """Of 4, 3, 1 and 2 numbers; the second has no gradient."""
    found = [nn.Parameter(torch.ones(shape)) for shape in [(2, 2), (3,), (), (2,)]]
    found[0].grad = torch.arange(4.0).reshape(2, 2)
    found[2].grad, found[3].grad = torch.tensor(5.0), torch.tensor([6.0, 7.0])
    return found


@pytest.mark.parametrize(
    ("numbers", "messages"),
    [
        (100, [[0, 1, 2, 3, 0, 0, 0, 5, 6, 7]]),
        (7, [[0, 1, 2, 3, 0, 0, 0], [5, 6, 7]]),
        (4, [[0, 1, 2, 3], [0, 0, 0, 5], [6, 7]]),
        (1, [[0, 1, 2, 3], [0, 0, 0], [5], [6, 7]]),
    ],
)
def test_messages_hold_what_fits_a_bucket(numbers: int, messages: list[list[float]]) -> None:
    trained = parameters()
    kept = [one.grad for one in trained]
    seen: list[list[float]] = []

    def double(tensor: Tensor) -> None:
        seen.append(tensor.flatten().tolist())
        tensor.mul_(2)

    sum_gradients(trained, double, bucket=4 * numbers)
    assert seen == messages
    assert [one.grad.tolist() for one in trained] == [[[0, 2], [4, 6]], [0, 0, 0], 10, [12, 14]]
    assert all(trained[number].grad is kept[number] for number in (0, 2, 3))


def test_one_process_sends_nothing() -> None:
    trained = parameters()
    sum_gradients(trained, None)
    assert trained[1].grad.tolist() == [0, 0, 0] and trained[3].grad.tolist() == [6, 7]


def test_a_gradient_that_is_no_block_of_memory_is_summed() -> None:
    (one,) = [nn.Parameter(torch.ones(2, 3))]
    one.grad = torch.arange(6.0).reshape(3, 2).T

    def add_one(tensor: Tensor) -> None:
        tensor.add_(1)

    sum_gradients([one], add_one, bucket=1)
    assert one.grad.tolist() == [[1, 3, 5], [2, 4, 6]]
