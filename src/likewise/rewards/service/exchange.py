"""One exchange with a reward service, and what can go wrong with it."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Sequence

import httpx2
from pydantic import SecretStr

from likewise.config.rewards import Remote
from likewise.rewards.common.keys import safe_head
from likewise.rewards.common.retries import retry_after
from likewise.rewards.service.wire import Part

ANSWER_BYTES = 2**20
BUSY = (429, 503)
ABOUT_TOKENS = (401, 403)


class ServiceError(RuntimeError):
    """A request that failed. The message never holds the token.

    Attributes:
        kind: One of `KINDS`.
        after: Seconds that the service asks to be left alone; 0 if it does not.
        again: Whether another try might go better.
        broken: Whether the service is to blame, rather than this request or the load.
    """

    def __init__(
        self, kind: str, message: str, after: float = 0, again: bool = True, broken: bool = True
    ) -> None:
        super().__init__(f"{kind}: {message}")
        self.kind, self.after, self.again, self.broken = kind, after, again, broken


# What the counts of a run tell apart. The first six are tries of a request; `circuit` and
# `deadline` are requests that were given up: the service failed too often, or took too long.
KINDS = ("unreachable", "timeout", "busy", "refused", "error", "garbage", "circuit", "deadline")


class Service:
    """Belongs to the event loop that it is used on."""

    def __init__(self, settings: Remote, token: SecretStr | None) -> None:
        self.url, self.token = f"{settings.url}/score", token
        # Proxies of the environment are for the web, not for a service in one's own network.
        self.client = httpx2.AsyncClient(
            headers={"Authorization": f"Bearer {token.get_secret_value()}"} if token else {},
            timeout=None,  # those of the library are per read: a server that drips would escape
            limits=httpx2.Limits(max_connections=settings.concurrency),
            trust_env=False,
        )

    async def probe(self, seconds: float) -> None:
        """Send a request without images, which a service refuses at once, in its own way.

        Raises:
            ServiceError: `unreachable`, `timeout`, or `refused` where it is for the token.
        """
        response, content = await self._post(seconds)
        if response.status_code in ABOUT_TOKENS:
            detail = safe_head(content.decode(errors="replace"), self.token)
            raise _refusal(response, f"status {response.status_code}: {detail}")

    async def ask(self, parts: Sequence[Part], count: int, seconds: float) -> list[float | None]:
        """A finite number or None for each of `count` images, within so many seconds.

        Raises:
            ServiceError: there is no such answer.
        """
        response, content = await self._post(seconds, list(parts))
        if response.status_code != 200:
            detail = safe_head(content.decode(errors="replace"), self.token)
            raise _refusal(response, f"status {response.status_code}: {detail}")
        return _values(content, count)

    async def _post(
        self, seconds: float, parts: list[Part] | None = None
    ) -> tuple[httpx2.Response, bytes]:
        """Raises ServiceError `unreachable`, `timeout` or `garbage` (an answer without end)."""
        try:
            async with (
                asyncio.timeout(seconds),
                self.client.stream("POST", self.url, files=parts) as response,
            ):
                return response, await _content(response)
        except TimeoutError:
            raise ServiceError("timeout", f"no answer within {seconds:.3g} s") from None
        except httpx2.RequestError as error:
            detail = safe_head(str(error), self.token)  # what is not HTTP is quoted there
            raise ServiceError("unreachable", f"{type(error).__name__}: {detail}") from None


async def _content(response: httpx2.Response) -> bytes:
    content = bytearray()
    async for part in response.aiter_bytes():
        content += part
        if len(content) > ANSWER_BYTES:
            raise ServiceError("garbage", "the answer does not end")
    return bytes(content)


def _refusal(response: httpx2.Response, detail: str) -> ServiceError:
    if response.status_code in BUSY:
        after = retry_after(response.headers.get("Retry-After"))
        return ServiceError("busy", detail, after, broken=False)
    if response.status_code >= 500:
        return ServiceError("error", detail)
    return ServiceError("refused", detail, again=False, broken=False)


def _values(content: bytes, count: int) -> list[float | None]:
    try:
        values = [None if one is None else _finite(one) for one in json.loads(content)["values"]]
        if len(values) != count:
            raise ValueError(f"{len(values)} values")
        return values
    except (ValueError, KeyError, TypeError, ArithmeticError, RecursionError):
        raise ServiceError("garbage", f"the answer is not {count} numbers") from None


def _finite(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError("not a finite number")
    return float(value)
