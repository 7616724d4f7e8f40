"""A VLM judge: questions in, verdicts out; each question is paid for once."""

from __future__ import annotations

import asyncio
import atexit
import logging
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import asdict

from likewise.config.rewards import VlmJudge
from likewise.rewards.common.background import Background
from likewise.rewards.common.keys import read_key
from likewise.rewards.vlm.attempts import Exchange
from likewise.rewards.vlm.outcomes import Counts, JudgeError
from likewise.rewards.vlm.question import Question
from likewise.rewards.vlm.verdict import Verdict
from likewise.rewards.vlm.verdict_cache import VerdictCache

logger = logging.getLogger(__name__)
Answer = Verdict | JudgeError  # or why there is none


class Judge:
    """One endpoint, for all rewards that name it, on whatever threads they run.

    Requests are made on an event loop in a thread of its own, which starts with the first question
    and ends, like the count of it all in the log, with :meth:`close` or the process.

    Args:
        settings: `side` and `weight` do not matter here.

    Raises:
        ValueError: there is no key in the environment, or no cache folder (the message starts with
            the field's name).
    """

    def __init__(self, settings: VlmJudge) -> None:
        self.settings, self.counts = settings, Counts()
        try:
            self.key = read_key(settings.api_key_env)
        except ValueError as error:
            raise ValueError(f"api_key_env: {error}") from error
        if self.key and self.key.get_secret_value() in settings.base_url:
            raise ValueError("base_url: it holds the API key, which belongs in api_key_env alone")
        try:
            self.cache = VerdictCache(settings.cache)
        except ValueError as error:
            raise ValueError(f"cache: {error}") from error
        self._running: dict[str, asyncio.Task[Verdict]] = {}
        self._failed: dict[str, tuple[str, JudgeError | None]] = {}  # key → who knows it, why
        self._start_lock = threading.Lock()
        self._background: Background | None = None
        self._exchange: Exchange | None = None

    def ask(self, questions: Sequence[Question], asker: str) -> tuple[Future[list[Answer]], Counts]:
        """Begin to ask; as many at once as `concurrency` says.

        Questions that are alike share one request, at the same time or later. A failure is shared
        once with another asker, so that two rewards agree on what is missing; whoever knows of it
        and asks again gets another try.

        Args:
            asker: Name of the reward that asks.

        Returns:
            A verdict about each to be, or why there is none; and what they take, complete by then.
        """
        counts = Counts()
        answers = self._all(questions, asker, counts)
        return asyncio.run_coroutine_threadsafe(answers, self._started().loop), counts

    def probe(self) -> None:
        """Check that a server answers at the endpoint's address; it costs nothing.

        Raises:
            ValueError: nothing answers (the message starts with the field's name).
        """
        background = self._started()
        assert self._exchange is not None
        try:
            background.run(self._exchange.endpoint.probe())
        except JudgeError as error:
            raise ValueError(
                f"base_url: nothing answers at {self.settings.base_url} ({error}): start the "
                "endpoint, or correct the address"
            ) from None

    def close(self) -> None:
        """End the thread and log the counts. A later question starts anew."""
        with self._start_lock:
            background, self._background = self._background, None
            if background is None:
                return
            assert self._exchange is not None
            background.run(self._exchange.endpoint.client.aclose())
            background.stop()
            atexit.unregister(self.close)
        listed = ", ".join(f"{name} {count:g}" for name, count in asdict(self.counts).items())
        # As a warning, since that shows without anyone setting up logs, and it may be about money.
        logger.warning("%s as judge, in this process: %s", self.settings.model, listed)

    def _started(self) -> Background:
        with self._start_lock:
            if self._background is None:
                self._background = Background("vlm-judge")
                self._exchange = Exchange(self.settings, self.key)
                atexit.register(self.close)
            return self._background

    async def _all(self, questions: Sequence[Question], asker: str, counts: Counts) -> list[Answer]:
        answers = await asyncio.gather(*(self._answer(one, asker, counts) for one in questions))
        counts.missing = sum(isinstance(one, JudgeError) for one in answers)
        self.counts.add(counts)
        return answers

    async def _answer(self, question: Question, asker: str, counts: Counts) -> Answer:
        settings = self.settings
        key = await asyncio.to_thread(
            question.key, settings.base_url, settings.model, settings.max_side
        )
        who, failure = self._failed.pop(key, (asker, None))
        if failure is not None and who != asker:
            counts.shared += 1
            return failure
        task = self._running.get(key)
        pays = task is None
        if task is None:
            task = self._running[key] = asyncio.create_task(self._settle(key, question, counts))
            task.add_done_callback(lambda _: self._running.pop(key))
        else:
            counts.shared += 1
        try:
            return await task
        except JudgeError as error:
            if pays:
                self._failed[key] = asker, error
            else:  # who waited for the same answer knows as well
                self._failed.pop(key, None)
            return error

    async def _settle(self, key: str, question: Question, counts: Counts) -> Verdict:
        verdict = await asyncio.to_thread(self.cache.read, key)
        if verdict is not None:
            counts.cached += 1
            return verdict
        assert self._exchange is not None
        verdict = await self._exchange.ask(question, counts)
        await asyncio.to_thread(self.cache.write, key, verdict)
        return verdict
