"""Ask until there is a verdict: so many requests at once, further tries, and waits in between."""

from __future__ import annotations

import asyncio
from typing import Any

from pydantic import SecretStr

from likewise.config.rewards import VlmJudge
from likewise.rewards.common.retries import backoff
from likewise.rewards.vlm.endpoint import Endpoint, Reply
from likewise.rewards.vlm.outcomes import Counts, JudgeError, TransientError, UnknownFormatError
from likewise.rewards.vlm.question import FORMATS, Question, data_url, fitted
from likewise.rewards.vlm.verdict import Verdict, parse_verdict


class Exchange:
    """All requests to one endpoint. Belongs to the event loop that it is used on."""

    def __init__(self, settings: VlmJudge, key: SecretStr | None) -> None:
        self.settings = settings
        self.endpoint = Endpoint(
            settings.base_url, key, settings.request_timeout, settings.concurrency
        )
        self.slots = asyncio.Semaphore(settings.concurrency)
        self.format = 0  # the strictest of FORMATS that the server is not known to lack
        self.resume_at = 0.0  # time of the loop before which the server wants no request

    async def ask(self, question: Question, counts: Counts) -> Verdict:
        """The verdict, within `total_timeout`; what it takes is added to `counts`.

        Raises:
            JudgeError: there is none.
        """
        limit = self.settings.total_timeout
        deadline = asyncio.get_running_loop().time() + limit
        try:
            async with asyncio.timeout_at(deadline):
                return await self._insist(question, counts, deadline)
        except TimeoutError:
            raise JudgeError(f"no verdict within {limit:g} s") from None

    async def _insist(self, question: Question, counts: Counts, deadline: float) -> Verdict:
        now = asyncio.get_running_loop().time
        failed = 0
        while True:
            try:
                return await self._attempt(question, counts, deadline)
            except UnknownFormatError:
                continue  # at once, in the next format; not a failure of the server
            except TransientError as error:
                failed += 1
                wait = backoff(failed)
                if error.after:  # meant for every request, not for this one alone
                    self.resume_at = max(self.resume_at, now() + error.after)
                too_late = max(self.resume_at, now() + wait) > deadline
                if failed == self.settings.attempts or too_late:
                    raise
            await asyncio.sleep(wait)
            counts.retries += 1

    async def _attempt(self, question: Question, counts: Counts, deadline: float) -> Verdict:
        async with self.slots:
            await self._pause(deadline)
            number = self.format
            body = await asyncio.to_thread(self._body, question, FORMATS[number])
            counts.requests += 1
            try:
                reply = await self.endpoint.post(body)
            except UnknownFormatError as error:
                if FORMATS[number] is None:
                    raise JudgeError(str(error)) from None
                self.format = max(self.format, number + 1)
                raise
        counts.add(self._price(reply))
        if reply.content is None:
            raise JudgeError("the model declined to answer")
        try:
            return parse_verdict(reply.content)
        except ValueError as error:
            raise TransientError(str(error)) from None

    def _price(self, reply: Reply) -> Counts:
        read, written = reply.prompt_tokens, reply.completion_tokens
        cost = read * self.settings.price_in + written * self.settings.price_out
        return Counts(prompt_tokens=read, completion_tokens=written, cost=cost / 1e6)

    async def _pause(self, deadline: float) -> None:
        now = asyncio.get_running_loop().time
        while (wait := self.resume_at - now()) > 0:
            if self.resume_at > deadline:
                raise JudgeError(f"the server wants no request for {wait:.0f} s")
            await asyncio.sleep(wait)

    def _body(self, question: Question, form: dict[str, Any] | None) -> dict[str, Any]:
        settings = self.settings
        messages = question.messages(lambda one: data_url(fitted(one, settings.max_side)))
        optional = {"max_tokens": settings.max_tokens, "response_format": form}
        return {
            "model": settings.model,
            "temperature": 0,
            "messages": messages,
            **{name: value for name, value in optional.items() if value is not None},
        }
