"""One request to an OpenAI-compatible endpoint, and what its answer means."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import Any

import httpx2
from pydantic import SecretStr

from likewise.rewards.common.keys import hide, safe_head
from likewise.rewards.common.retries import retry_after
from likewise.rewards.vlm.outcomes import JudgeError, TransientError, UnknownFormatError

LARGEST_ANSWER = 2**20  # bytes; a verdict has a few hundred
PASSING = {408, 409, 425, 429}  # beside all from 500
ABOUT_KEYS = {401, 403}
FORMAT_WORDS = ("response_format", "json_schema", "json_object")


@dataclass(frozen=True)
class Reply:
    """A chat completion: what the model wrote (None: nothing), and the tokens that it took."""

    content: str | None
    prompt_tokens: int
    completion_tokens: int


class Endpoint:
    """Posts to ``{base_url}/chat/completions``. Belongs to the event loop that it is used on.

    Args:
        base_url: Without a key in it.
        key: Sent as bearer token, to this address and nowhere else: redirections are not followed.
        timeout: Seconds that a request may take in all.
        connections: The most that are open at once.
    """

    def __init__(
        self, base_url: str, key: SecretStr | None, timeout: float, connections: int
    ) -> None:
        self.url, self.models_url = base_url + "/chat/completions", base_url + "/models"
        self.key, self.timeout = key, timeout
        self.client = httpx2.AsyncClient(
            headers={"Authorization": f"Bearer {key.get_secret_value()}"} if key else {},
            timeout=None,  # those of the library are per read: a server that drips would escape
            limits=httpx2.Limits(max_connections=connections),
            follow_redirects=False,
        )

    async def post(self, body: dict[str, Any]) -> Reply:
        """Send a chat request.

        Raises:
            UnknownFormatError, TransientError, JudgeError: see there.
        """
        try:
            async with (
                asyncio.timeout(self.timeout),
                self.client.stream("POST", self.url, json=body) as response,
            ):
                text = await _read(response)
        except TimeoutError:
            raise TransientError(f"no answer within {self.timeout:g} s") from None
        except httpx2.RequestError as error:
            raise self._unreachable(error) from None
        if response.is_success:
            return self._reply(text)
        raise self._error(response, text)

    async def probe(self) -> None:
        """Check that a server answers at the address, whatever it says; no model is asked.

        Raises:
            TransientError: nothing answers.
        """
        try:
            async with (
                asyncio.timeout(self.timeout),
                self.client.stream("GET", self.models_url),
            ):
                return
        except TimeoutError:
            raise TransientError(f"no answer within {self.timeout:g} s") from None
        except httpx2.RequestError as error:
            raise self._unreachable(error) from None

    def _unreachable(self, error: httpx2.RequestError) -> TransientError:
        complaint = f"{type(error).__name__}: {safe_head(str(error), self.key)}"
        return TransientError(complaint.removesuffix(": "))

    def _reply(self, text: str) -> Reply:
        try:
            answer = json.loads(hide(text, self.key))
            content = answer["choices"][0]["message"].get("content")
            usage = answer.get("usage") or {}
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
            raise TransientError("the answer is not a chat completion") from None
        return Reply(
            content if isinstance(content, str) else None,
            _tokens(usage, "prompt_tokens"),
            _tokens(usage, "completion_tokens"),
        )

    def _error(self, response: httpx2.Response, text: str) -> JudgeError:
        status = response.status_code
        what = f"HTTP {status}"
        # Complaints about keys like to quote a part of them, however small.
        if status not in ABOUT_KEYS and (complaint := _complaint(text)):
            what += ": " + safe_head(complaint, self.key)
        if status in PASSING or status >= 500:
            return TransientError(what, retry_after(response.headers.get("Retry-After")))
        if status in (400, 422) and any(word in text for word in FORMAT_WORDS):
            return UnknownFormatError(what)
        return JudgeError(f"{what}, a redirection" if response.is_redirect else what)


async def _read(response: httpx2.Response) -> str:
    parts = bytearray()
    async for part in response.aiter_bytes():
        parts += part
        if len(parts) > LARGEST_ANSWER:
            raise TransientError(f"the answer has more than {LARGEST_ANSWER} bytes")
    return parts.decode("utf-8", errors="replace")


def _tokens(usage: Any, name: str) -> int:
    count = usage.get(name) if isinstance(usage, dict) else None
    return count if type(count) is int and count >= 0 else 0


def _complaint(text: str) -> str:
    """What a server says of an error in OpenAI's form, on one line; else nothing."""
    try:
        error = json.loads(text)["error"]
        said = error["message"] if isinstance(error, dict) else error
    except (ValueError, LookupError, TypeError, RecursionError):
        return ""
    return " ".join(said.split()) if isinstance(said, str) else ""
