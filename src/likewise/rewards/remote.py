"""A reward that is computed elsewhere, by `likewise serve-reward`, while this process draws on."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import CancelledError, Future
from functools import cached_property

import torch
from PIL import Image
from torch import Tensor

from likewise.config.rewards import Remote
from likewise.rewards.common.background import Background
from likewise.rewards.common.inputs import check_images, check_tasks
from likewise.rewards.common.keys import read_key
from likewise.rewards.common.retries import backoff
from likewise.rewards.service.breaker import Breaker
from likewise.rewards.service.exchange import KINDS, Service, ServiceError
from likewise.rewards.service.wire import pack
from likewise.types import Task

Numbers = list[float | None]
MOMENT = 0.1  # seconds that the last try of a probe has at least


class RemoteReward:
    """Implements :class:`likewise.protocols.SlowReward`.

    Requests are made on an event loop in a thread of its own. What has no answer in the end
    (after all tries, or at the deadline) is missing.

    Args:
        settings: Where, how many at once, how often and for how long.

    Raises:
        ValueError: the environment variable `token_env` holds no token.
    """

    def __init__(self, settings: Remote) -> None:
        self.settings = settings
        try:
            self.token = read_key(settings.token_env)
        except ValueError as error:
            raise ValueError(f"token_env: {error}") from error
        self.breaker = Breaker(settings.break_after, settings.break_seconds)
        self.slots = asyncio.Semaphore(settings.concurrency)

    def score(self, images: Sequence[Image.Image], tasks: Sequence[Task]) -> tuple[Tensor, Tensor]:
        """Values float32 [B] and valid bool [B]; see :class:`likewise.protocols.Reward`.

        Raises:
            ValueError: an image or reference is not RGB, or the lengths differ.
        """
        return self.submit(images, tasks).result(time.monotonic())

    def submit(self, images: Sequence[Image.Image], tasks: Sequence[Task]) -> PendingScores:
        """Begin to send, in requests of `batch` images; raises as :meth:`score`."""
        check_tasks(images, tasks)
        check_images([task.reference for task in tasks], "reference")
        size, notes = self.settings.batch, _Notes(self.settings.url)
        requests = []
        for start in range(0, len(images), size):
            part = slice(start, start + size)
            answer = asyncio.run_coroutine_threadsafe(
                self._insist(images[part], tasks[part], notes), self._background.loop
            )
            requests.append((len(images[part]), answer))
        return PendingScores(requests, notes, self.settings.deadline)

    def probe(self) -> None:
        """See that the service answers, and takes the token; it has `timeout` seconds to come up.

        Raises:
            ValueError: no answer came, or the token was refused (the message starts with the
                field's name).
        """
        until = time.monotonic() + self.settings.timeout
        for attempt in itertools.count(1):
            left = until - time.monotonic()
            try:
                return self._background.run(self._probe(max(left, MOMENT)))
            except ServiceError as error:
                wait = backoff(attempt)
                if error.kind == "refused":
                    raise ValueError(f"token_env: {self.settings.url}: {error}") from None
                if time.monotonic() + wait > until:
                    raise ValueError(
                        f"url: nothing answers at {self.settings.url} ({error}): start the service "
                        "there (likewise serve-reward), or correct the address"
                    ) from None
            time.sleep(wait)

    async def _probe(self, seconds: float) -> None:
        await self._service.probe(seconds)

    @cached_property
    def _background(self) -> Background:
        return Background("remote-reward")

    @cached_property
    def _service(self) -> Service:  # first used, hence made, on the loop
        return Service(self.settings, self.token)

    async def _insist(
        self, images: Sequence[Image.Image], tasks: Sequence[Task], notes: _Notes
    ) -> Numbers:
        """Try until there is an answer, it makes no sense to go on, or someone cancels."""
        seconds = self.settings.timeout
        async with self.slots:
            parts = await asyncio.to_thread(pack, images, tasks, seconds)
            for failed in range(1, self.settings.retries + 2):
                if not self.breaker.allows():
                    cause = f"too many failures in a row, the last: {self.breaker.cause}"
                    notes.add(ServiceError("circuit", cause))
                    break
                try:
                    numbers = await self._service.ask(parts, len(images), seconds)
                except ServiceError as error:
                    notes.add(error)
                    if error.broken:
                        self.breaker.failed(str(error))
                    else:
                        self.breaker.succeeded()
                    if not error.again or failed > self.settings.retries:
                        break
                    await asyncio.sleep(max(backoff(failed), error.after))
                else:
                    self.breaker.succeeded()
                    return numbers
        return notes.nothing(len(images))


class _Notes:
    """What went wrong in the requests of one submission to the service at `url`."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.counts: Counter[str] = Counter(dict.fromkeys(KINDS, 0))
        self.last = ""
        self.lost = 0  # images

    def nothing(self, count: int) -> Numbers:
        """The answer about so many images when there is none."""
        self.lost += count
        return [None] * count

    def add(self, error: ServiceError) -> None:
        self.counts[error.kind] += 1
        self.last = str(error)


class PendingScores:
    """Implements :class:`likewise.protocols.Pending`.

    Args:
        requests: How many images each asks about, and its answer to be.
        deadline: Seconds that they are waited for.
    """

    def __init__(
        self, requests: Sequence[tuple[int, Future[Numbers]]], notes: _Notes, deadline: float
    ) -> None:
        self._requests, self._notes, self._deadline = requests, notes, deadline

    @property
    def counts(self) -> dict[str, float]:
        """``failed/<kind>`` → tries or requests that ended so (`service.KINDS`)."""
        return {f"failed/{kind}": count for kind, count in self._notes.counts.items()}

    @property
    def problem(self) -> str:
        notes = self._notes
        if not notes.lost:
            return ""
        counts = ", ".join(f"{kind} {count}" for kind, count in (+notes.counts).items())
        lost = f"{notes.lost} images from {notes.url}"
        return f"no answer about {lost} ({counts}); the last: {notes.last}"

    def result(self, since: float) -> tuple[Tensor, Tensor]:
        """Values float32 [B] and valid bool [B]; see :class:`likewise.protocols.Pending`."""
        numbers: Numbers = []
        for count, answer in self._requests:
            left = since + self._deadline - time.monotonic()
            try:
                numbers += answer.result(max(0.0, left))
            except (TimeoutError, CancelledError):
                answer.cancel()
                late = f"no answer {self._deadline:g} s after the last image was drawn"
                self._notes.add(ServiceError("deadline", late))
                numbers += self._notes.nothing(count)
        valid = torch.tensor([number is not None for number in numbers], dtype=torch.bool)
        values = torch.tensor([number or 0.0 for number in numbers], dtype=torch.float32)
        return values, valid & values.isfinite()
