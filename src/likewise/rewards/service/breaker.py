"""A circuit breaker: a service that failed often in a row gets no requests for a while."""

from __future__ import annotations

import time
from collections.abc import Callable


class Breaker:
    """Closed (requests may go), open (none may), or half open (one may, to see).

    Args:
        after: Failures in a row that open it.
        seconds: That it stays open, before one request may probe.
        clock: Seconds that never run backwards.
    """

    def __init__(
        self, after: int, seconds: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.after, self.seconds, self.clock = after, seconds, clock
        self.failures = 0
        self.cause = ""  # of the last failure
        self.next_probe = 0.0

    def allows(self) -> bool:
        """Whether a request may go now. One that may as a probe keeps others from going."""
        if self.failures < self.after:
            return True
        if self.clock() < self.next_probe:
            return False
        self._wait()
        return True

    def succeeded(self) -> None:
        self.failures = 0

    def failed(self, cause: str = "") -> None:
        self.failures, self.cause = self.failures + 1, cause
        self._wait()

    def _wait(self) -> None:
        """Also while a probe is under way, whose end may never be told."""
        self.next_probe = self.clock() + self.seconds
