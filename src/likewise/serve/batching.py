"""Images of many requests → batches for one reward, which only one thread calls."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from PIL import Image

from likewise.serve.answers import RewardFunction, plain_numbers
from likewise.serve.counters import Counters
from likewise.types import Task


class RewardError(RuntimeError):
    """The reward raised, or did not answer with one number per image."""


@dataclass(frozen=True, eq=False)
class _Waiting:
    """One image; `request` is the same object for those that came together."""

    image: Image.Image
    task: Task
    request: object
    until: float  # by the loop's clock
    answer: asyncio.Future[float | None]


class Batcher:
    """Collects images until a batch is full or the first has waited long enough.

    While one batch is scored the next gathers, so that batches fill up under load.

    Args:
        reward: Called with B ≤ `max_batch` images and tasks.
        max_wait: Seconds.
    """

    def __init__(
        self, reward: RewardFunction, max_batch: int, max_wait: float, counters: Counters
    ) -> None:
        self.reward, self.max_batch, self.max_wait = reward, max_batch, max_wait
        self.counters = counters
        self.waiting: asyncio.Queue[_Waiting] = asyncio.Queue()  # bounded by `limits.Load`
        self.thread = ThreadPoolExecutor(1, thread_name_prefix="reward")

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Score batches within this context; leave it when no request is open any more."""
        worker = asyncio.create_task(self._work())
        try:
            yield
        finally:
            worker.cancel()
            self.thread.shutdown(wait=False, cancel_futures=True)

    async def score(
        self, images: Sequence[Image.Image], tasks: Sequence[Task], seconds: float
    ) -> list[float | None]:
        """A number for each image, None where the reward has nothing to say.

        Raises:
            RewardError: the reward failed.
            TimeoutError: its turn did not come within so many seconds.
        """
        loop, request = asyncio.get_running_loop(), object()
        until = loop.time() + seconds
        entries = [
            _Waiting(image, task, request, until, loop.create_future())
            for image, task in zip(images, tasks, strict=True)
        ]
        for entry in entries:
            self.waiting.put_nowait(entry)
        return await asyncio.gather(*(entry.answer for entry in entries))

    async def _work(self) -> None:
        while True:
            batch = await self._collect()
            now = asyncio.get_running_loop().time()
            for entry in batch:
                if entry.until < now and not entry.answer.done():  # done: its request was cancelled
                    entry.answer.set_exception(TimeoutError("its turn came too late"))
            await self._answer([entry for entry in batch if not entry.answer.done()])

    async def _collect(self) -> list[_Waiting]:
        batch = [await self.waiting.get()]
        until = asyncio.get_running_loop().time() + self.max_wait
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(until):
                while len(batch) < self.max_batch:
                    batch.append(await self.waiting.get())
        return batch

    async def _answer(self, batch: Sequence[_Waiting]) -> None:
        """Where a batch fails, each request is tried alone: a bad one must not spoil others."""
        if not batch:
            return
        loop = asyncio.get_running_loop()
        try:
            numbers: Sequence[float | RewardError | None] = await loop.run_in_executor(
                self.thread, self._call_reward, batch
            )
        except Exception as error:
            requests = list(dict.fromkeys(entry.request for entry in batch))
            if len(requests) > 1:
                for one in requests:
                    await self._answer([entry for entry in batch if entry.request is one])
                return
            if not isinstance(error, RewardError):
                error = RewardError(f"{type(error).__name__}: {error}")
            numbers = [error] * len(batch)
        for entry, number in zip(batch, numbers, strict=True):
            if entry.answer.done():  # its request was given up
                continue
            if isinstance(number, RewardError):
                entry.answer.set_exception(number)
            else:
                entry.answer.set_result(number)

    def _call_reward(self, batch: Sequence[_Waiting]) -> list[float | None]:
        with self.counters.batch(len(batch)), _contained():
            answer = self.reward([one.image for one in batch], [one.task for one in batch])
            return plain_numbers(answer, len(batch))


@contextlib.contextmanager
def _contained() -> Iterator[None]:
    """Turn what would end the server, as ``sys.exit`` does, into a failure of this batch.

    Raises:
        RewardError: the reward raised something other than an Exception.
    """
    try:
        yield
    except Exception:
        raise
    except BaseException as error:
        raise RewardError(f"it tried to end the service: {type(error).__name__}: {error}") from None
