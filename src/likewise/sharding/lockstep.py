"""Processes that share weights go forward and backward together, however their work differs.

Every forward of a sharded model gathers its weights from all processes, so all of them have to make
the same forwards and backward passes, in the same order. Their work is not that equal: shares of
images differ, so do shapes, and a signal stops one process a moment before another. So each process
says what it wants to do next; the smallest of these is what all do, and whoever wanted something
else takes part with an input of zeros, whose gradient counts 0 times. Nothing has to be divisible.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from torch import Tensor

# Weights that are put in place of the current ones for a moment. They are in shards too, so they
# have to be in place everywhere at once. Who has put some in place goes first.
STATES = ("reference", "old")
CURRENT = len(STATES)
BACKWARD = 2 * (CURRENT + 1)  # below: twice a state's number, plus 1 for a forward with gradient
DONE = BACKWARD + 1

Context = Callable[[], AbstractContextManager[None]]


class Lockstep:
    """Keeps the forwards and backward passes of all processes in step.

    Args:
        agree: The smallest of the numbers that all processes give; a collective call.
        take_part: One forward of the model on an input of zeros; its output.
    """

    def __init__(self, agree: Callable[[int], int], take_part: Callable[[], Tensor]) -> None:
        self.agree, self.take_part = agree, take_part
        self.contexts: dict[str, Context] = {}
        self._state = CURRENT
        self._following = False
        self._zeros: list[Tensor] = []  # outputs whose graphs await the next backward pass

    @contextmanager
    def holding(self, state: str) -> Iterator[None]:
        """Within this context the weights are others, which :attr:`contexts` can put in place."""
        before, self._state = self._state, STATES.index(state)
        try:
            yield
        finally:
            self._state = before

    def before_forward(self, *_: Any) -> None:
        """A hook: returns when it is this process's turn."""
        if not self._following:
            self._reach(2 * self._state + torch.is_grad_enabled())

    def backward(self, loss: Tensor) -> None:
        """The backward pass of `loss`, and of the forwards that this process took part in."""
        self._reach(BACKWARD)
        self._backward(loss)

    def finish(self) -> None:
        """Take part until all processes are here; before they exchange anything else."""
        self._reach(DONE)

    def _reach(self, wanted: int) -> None:
        while (agreed := self.agree(wanted)) != wanted:
            if agreed == BACKWARD:
                self._backward()
            else:
                self._forward(*divmod(agreed, 2))

    def _forward(self, state: int, with_gradient: int) -> None:
        self._following = True
        try:
            with torch.set_grad_enabled(bool(with_gradient)), self._weights(state):
                output = self.take_part()
        finally:
            self._following = False
        if with_gradient:
            self._zeros.append(output)

    @contextmanager
    def _weights(self, state: int) -> Iterator[None]:
        if state == self._state:
            yield
            return
        with self.contexts[STATES[state]]():
            yield

    def _backward(self, loss: Tensor | None = None) -> None:
        zeros, self._zeros = self._zeros, []
        parts = [0.0 * one.sum() for one in zeros] + ([] if loss is None else [loss])
        torch.stack(parts).sum().backward()
