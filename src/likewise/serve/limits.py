"""How much a service takes on, and what bounds its memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from fastapi import HTTPException

RETRY_AFTER = {"Retry-After": "1"}  # seconds
DOCUMENT_BYTES = 2**20  # of the part that describes the tasks
AUTHORISED = "authorised"  # in the state of a request that showed the token


@dataclass(frozen=True)
class Limits:
    """Memory stays below about ``requests * request_bytes + 3 * held_pixels``, beside the reward's.

    Attributes:
        request_bytes: Of one request, everything in it.
        images: Files in one request: drawn ones, references, masks and other photos. Also the
            most tasks that it may describe, and the most photos of each kind that a task may name.
        pixels: Of one image, by its header, before anything is decoded.
        held_pixels: Of all images of all requests in progress.
        requests: In progress at once, waiting ones included; more are told to come back.
        seconds: That a client may take to send a request.
        header_seconds: Of these, for its headers.
        connections: Open at once; see `connections.BoundedConnection`.
    """

    request_bytes: int = 32 * 2**20
    images: int = 256
    pixels: int = 2048 * 2048
    held_pixels: int = 2**27
    requests: int = 64
    seconds: float = 30.0
    header_seconds: float = 10.0
    connections: int = 256


class Load:
    """Requests and pixels in progress, kept below the limits. Belongs to one event loop."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.requests = self.pixels = 0

    @contextmanager
    def of_request(self) -> Iterator[None]:
        """Count one request. Raises HTTPException 503 if there are as many as there may be."""
        if self.requests >= self.limits.requests:
            raise HTTPException(503, "too many requests in progress", RETRY_AFTER)
        self.requests += 1
        try:
            yield
        finally:
            self.requests -= 1

    @contextmanager
    def of_pixels(self, count: int) -> Iterator[None]:
        """Count its pixels. Raises HTTPException 413 if they never fit, 503 if they do not now."""
        if count > self.limits.held_pixels:
            limit = self.limits.held_pixels
            raise HTTPException(413, f"{count} pixels in one request; the limit is {limit}")
        if self.pixels + count > self.limits.held_pixels:
            raise HTTPException(503, "too many pixels in progress", RETRY_AFTER)
        self.pixels += count
        try:
            yield
        finally:
            self.pixels -= count
