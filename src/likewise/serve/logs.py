"""A log that does not repeat itself, whatever clients send."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

SECONDS = 60.0
MOST = 256  # messages that are remembered
LOGGERS = ("uvicorn.error", "asyncio")  # asyncio complains 128 times at once that files ran out


class Repeats(logging.Filter):
    """Lets each complaint through once in a while, with the count of those that were left out.

    What is below a warning passes.

    Args:
        seconds: In which a message that has been seen is only counted.
        clock: Seconds that never run backwards.
    """

    def __init__(
        self, seconds: float = SECONDS, clock: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__()
        self.seconds, self.clock = seconds, clock
        self.seen: dict[str, tuple[float, int]] = {}  # message → said when, left out since

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno < logging.WARNING:
            return True
        now, key = self.clock(), str(record.msg)[:200]
        said, left_out = self.seen.get(key, (now - self.seconds, 0))
        if now - said < self.seconds:
            self.seen[key] = said, left_out + 1
            return False
        if len(self.seen) >= MOST:
            self.seen.clear()
        self.seen[key] = now, 0
        if left_out:
            record.msg = f"{record.msg} ({left_out} more like it before)"
        return True


def keep_short() -> None:
    """Put the filter on the server's loggers, once."""
    for name in LOGGERS:
        logger = logging.getLogger(name)
        if not any(isinstance(one, Repeats) for one in logger.filters):
            logger.addFilter(Repeats())
