"""SIGTERM and SIGINT end a run at the next safe point instead of in the middle of a write."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from concurrent.futures import Future, wait
from types import FrameType, TracebackType
from typing import TypeVar

T = TypeVar("T")
Stop = Callable[[], bool]  # whether to stop as soon as possible
POLL_SECONDS = 0.1


def never() -> bool:
    """A `Stop` that never comes."""
    return False


def unless_stopped(work: Callable[[], T], stop: Stop) -> T | None:
    """What `work` returns, or None as soon as `stop` says so; a daemon thread then finishes `work`.

    For waits that no signal cuts short, such as those for an answer over the network.

    Raises:
        BaseException: whatever `work` raises.
    """
    result: Future[T] = Future()

    def run() -> None:
        try:
            result.set_result(work())
        except BaseException as error:
            result.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    while not wait([result], timeout=POLL_SECONDS).done:
        if stop():
            return None
    return result.result()


class SecondInterruptError(KeyboardInterrupt):
    """The user wants to leave at once; unlike a KeyboardInterrupt that a reward may raise."""


class Interrupts:
    """While entered, the first signal is only remembered; a second SIGINT acts at once.

    Outside the main thread, where Python allows no handlers, signals act as ever.

    Args:
        on_signal: Called with every signal's number, from the handler.

    Attributes:
        received: The last signal's number, or 0.
    """

    SIGNALS = (signal.SIGTERM, signal.SIGINT)

    def __init__(self, on_signal: Callable[[int], None] | None = None) -> None:
        self.received = 0
        self.on_signal = on_signal
        self._before: dict[int, object] = {}

    def __enter__(self) -> Interrupts:
        on_main_thread = threading.current_thread() is threading.main_thread()
        for number in self.SIGNALS if on_main_thread else ():
            self._before[number] = signal.signal(number, self._remember)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def requested(self) -> bool:
        """Whether a signal has come: what is going on should stop at the next safe point."""
        return self.received > 0

    def _remember(self, number: int, frame: FrameType | None) -> None:
        if self.received and number == signal.SIGINT:
            raise SecondInterruptError
        self.received = number
        if self.on_signal is not None:
            self.on_signal(number)
