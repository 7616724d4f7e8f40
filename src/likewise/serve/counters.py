"""Prometheus metrics of a service."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

SECONDS = (0.005, 0.02, 0.1, 0.5, 2, 10, 60)
SIZES = (1, 2, 4, 8, 16, 32, 64, 128)
PREFIX = "likewise_reward"


class Counters:
    """Metrics of one application; names start with ``likewise_reward_``."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        own: Any = {"registry": self.registry, "namespace": PREFIX}
        self.answers = Counter("answers", "Answers by HTTP status", ["status"], **own)
        self.images = Counter("images", "Images by what became of them", ["outcome"], **own)
        self.failures = Counter("failures", "Batches at which the reward failed", **own)
        self.sizes = Histogram("batch_size", "Images per batch", buckets=SIZES, **own)
        self.seconds = Histogram("batch_seconds", "Time per batch", buckets=SECONDS, **own)
        self.waiting = Gauge("waiting", "Images that wait for a batch", **own)
        self.requests = Gauge("requests", "Requests in progress", **own)

    def watch(self, waiting: Callable[[], int], requests: Callable[[], int]) -> None:
        """Set the functions that give the two gauges their values."""
        self.waiting.set_function(waiting)
        self.requests.set_function(requests)

    def answered(self, status: int) -> None:
        self.answers.labels(str(status)).inc()

    def scored(self, values: Sequence[float | None]) -> None:
        missing = values.count(None)
        self.images.labels("missing").inc(missing)
        self.images.labels("scored").inc(len(values) - missing)

    @contextmanager
    def batch(self, size: int) -> Iterator[None]:
        """Around one call of the reward."""
        self.sizes.observe(size)
        with self.seconds.time(), self.failures.count_exceptions():
            yield

    def text(self) -> bytes:
        """In Prometheus' text format."""
        return generate_latest(self.registry)
