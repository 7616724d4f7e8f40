"""SIGTERM and SIGINT end a run at the next safe point instead of in the middle of a write."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType, TracebackType


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

    def _remember(self, number: int, frame: FrameType | None) -> None:
        if self.received and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.received = number
        if self.on_signal is not None:
            self.on_signal(number)
