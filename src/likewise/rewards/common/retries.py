"""How long to wait before the next try."""

from __future__ import annotations

import math
import random
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

FIRST_WAIT, LONGEST_WAIT = 1.0, 30.0  # seconds
_chance = random.SystemRandom()  # no seed, and no draw from the generators that runs repeat


def backoff(attempt: int) -> float:
    """Seconds after failed attempt 1, 2, …: doubling to a limit, of which a random half or more.

    The randomness keeps clients that failed together from coming back together.
    """
    return min(LONGEST_WAIT, FIRST_WAIT * 2 ** (attempt - 1)) * _chance.uniform(0.5, 1)


def retry_after(value: str | None, now: datetime | None = None) -> float:
    """Seconds that a ``Retry-After`` header asks for, as a number or as a date (RFC 9110).

    Returns:
        ≥ 0; 0 without a header, and for one that cannot be read.
    """
    if value is None:
        return 0
    try:
        seconds = float(value)
    except ValueError:
        seconds = _until(value, now or datetime.now(UTC))
    return max(0.0, seconds) if math.isfinite(seconds) else 0


def _until(date: str, now: datetime) -> float:
    try:
        when = parsedate_to_datetime(date)
    except ValueError:
        return 0
    return ((when if when.tzinfo else when.replace(tzinfo=UTC)) - now).total_seconds()
