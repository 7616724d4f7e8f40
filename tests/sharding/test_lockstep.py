"""Processes with different work make the same passes; here they are threads, the model a weight."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor, nn

from likewise.sharding.lockstep import Lockstep

SECONDS = 60  # after which a deadlock is a failure


class Peers:
    """The smallest of what `count` threads say, as a collective call."""

    def __init__(self, count: int) -> None:
        self.said = [0] * count
        self.barrier = threading.Barrier(count, timeout=SECONDS)

    def agree(self, index: int) -> Callable[[int], int]:
        def smallest(number: int) -> int:
            self.said[index] = number
            self.barrier.wait()
            found = min(self.said)
            self.barrier.wait()
            return found

        return smallest


class Process:
    """One weight, and what was done with it in which state."""

    def __init__(self, peers: Peers, index: int) -> None:
        self.weight = nn.Parameter(torch.ones(()))
        self.passes: list[tuple[str, ...]] = []
        self.state = "current"
        self.lockstep = Lockstep(peers.agree(index), lambda: self._model(torch.zeros(())))
        for state in ("reference", "old"):
            self.lockstep.contexts[state] = lambda state=state: self.holding(state)

    @contextmanager
    def holding(self, state: str) -> Iterator[None]:
        before, self.state = self.state, state
        try:
            with self.lockstep.holding(state):
                yield
        finally:
            self.state = before

    def forward(self) -> Tensor:
        return self._model(torch.ones(()))

    def backward(self, loss: Tensor) -> None:
        self.lockstep.backward(loss)
        self.passes.append(("backward",))

    def _model(self, x: Tensor) -> Tensor:
        self.lockstep.before_forward()  # the hook of a model
        self.passes.append((self.state, "gradient" if torch.is_grad_enabled() else "none"))
        return self.weight * x


def drawn(process: Process, count: int) -> None:
    with torch.no_grad():
        for _ in range(count):
            process.forward()


def learned(process: Process, shapes: int, compares: bool) -> None:
    """One term: a forward for each shape, and what it is compared with."""
    if compares:
        with torch.no_grad(), process.holding("old"):
            process.forward()
    loss = torch.stack([process.forward() for _ in range(shapes)]).sum()
    if compares:
        with torch.no_grad(), process.holding("reference"):
            process.forward()
    process.backward(loss)


def trained(terms: Sequence[tuple[int, int, bool]], process: Process) -> None:
    for count, shapes, compares in terms:
        drawn(process, count)
        learned(process, shapes, compares)


def together(programs: list[Callable[[Process], None]]) -> list[Process]:
    """Every program in a thread of its own, as one phase of a run."""
    peers = Peers(len(programs))
    processes = [Process(peers, index) for index in range(len(programs))]
    failures: list[BaseException] = []

    def run(process: Process, program: Callable[[Process], None]) -> None:
        try:
            program(process)
            process.lockstep.finish()
        except BaseException as error:
            failures.append(error)
            peers.barrier.abort()

    threads = [
        threading.Thread(target=run, args=pair) for pair in zip(processes, programs, strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(2 * SECONDS)
    assert not failures, failures
    return processes


def forwards(process: Process) -> list[tuple[str, ...]]:
    return [one for one in process.passes if one != ("backward",)]


def test_whoever_has_less_to_draw_takes_part() -> None:
    found = together([lambda p: drawn(p, 3), lambda p: drawn(p, 1), lambda p: None])
    assert [one.passes for one in found] == [[("current", "none")] * 3] * 3


def test_gradients_are_those_of_own_work_alone() -> None:
    found = together([lambda p: learned(p, 2, False), lambda p: learned(p, 1, False)])
    assert [float(one.weight.grad) for one in found if one.weight.grad is not None] == [2, 1]
    assert forwards(found[0]) == forwards(found[1]) == [("current", "gradient")] * 2


def test_whoever_has_nothing_to_learn_goes_backward_too() -> None:
    found = together([lambda p: learned(p, 1, True), lambda p: None])
    assert float(found[1].weight.grad) == 0  # of an input of zeros
    wanted = [("old", "none"), ("current", "gradient"), ("reference", "none")]
    assert forwards(found[0]) == forwards(found[1]) == wanted


def test_any_work_ends_with_the_same_forwards() -> None:
    """Weights in place are the same everywhere in every forward, whatever each has to do."""
    for seed in range(20):
        chance = random.Random(seed)
        work = [
            [
                (chance.randrange(3), chance.randrange(1, 4), chance.random() < 0.5)
                for _ in range(chance.randrange(4))
            ]
            for _ in range(3)
        ]
        found = together([partial(trained, terms) for terms in work])
        assert forwards(found[0]) == forwards(found[1]) == forwards(found[2])
        for process, terms in zip(found, work, strict=True):
            own = sum(shapes for _, shapes, _ in terms)
            got = 0.0 if process.weight.grad is None else float(process.weight.grad)
            assert got == own
