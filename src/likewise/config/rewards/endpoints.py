"""Rewards that others compute, reached over the network."""

from __future__ import annotations

import re
from typing import Annotated, Literal
from urllib.parse import SplitResult, urlsplit

from pydantic import (
    AfterValidator,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

from likewise.config.rewards.reward_section import RewardSection, Side

# Longest wait of an iteration; other processes wait meanwhile (trainer.processes).
MOST_SECONDS = 540

# The messages quote nothing: what is wrong here may well be a key.


def _address(url: str) -> str:
    parts = _split(url)
    if parts is None or parts.scheme not in ("http", "https") or "@" in parts.netloc:
        raise ValueError(f"wants http(s)://host/path, without user or password; {_KEY_HINT}")
    if re.search(r"[\s?#]", url):
        raise ValueError(f"wants no query, fragment or spaces; {_KEY_HINT}")
    return url.rstrip("/")


def _split(url: str) -> SplitResult | None:
    """The parts of a URL; None if it has no host, or an impossible one or port."""
    try:
        parts = urlsplit(url)
        return parts if parts.hostname and parts.port != 0 else None
    except ValueError:
        return None


def _variable(name: str) -> str:
    if not re.fullmatch(r"[A-Z][A-Z0-9_]{0,63}", name):
        raise ValueError("wants a variable's name, in capitals, and never the key itself")
    return name


_KEY_HINT = "a key belongs in an environment variable"
Address = Annotated[str, AfterValidator(_address)]
Variable = Annotated[str, AfterValidator(_variable)]


class VlmJudge(RewardSection):
    """A vision-language model behind an OpenAI-compatible endpoint: a score from 0 to 4.

    Side `identity` is how well the concept is preserved, `prompt` how well the prompt is followed.
    Rewards that differ in side, score and weight alone share their requests. See docs/vlm-judge.md.
    """

    kind: Literal["vlm-judge"] = "vlm-judge"
    score: Side | None = Field(None, description="which of its two scores; null: its side's")
    base_url: Address = Field(description="what comes before /chat/completions; http or https")
    model: str = Field(min_length=1, description="as the endpoint calls it")
    api_key_env: Variable | None = Field(
        None, description="environment variable that holds the key; null: none is sent"
    )
    cache: str = Field("~/.cache/likewise/vlm-judge", description="folder for verdicts")
    max_side: int = Field(1024, ge=16, description="longer sides are scaled down to it, in pixels")
    max_tokens: PositiveInt | None = Field(
        1024, description="of an answer; null: the parameter is not sent"
    )
    concurrency: PositiveInt = Field(8, description="requests at once, per process")
    request_timeout: PositiveFloat = Field(60, description="seconds for one request")
    total_timeout: PositiveFloat = Field(
        300, le=MOST_SECONDS, description="seconds for an image, waits included"
    )
    attempts: PositiveInt = Field(4, description="requests per image, before it is missing")
    price_in: NonNegativeFloat = Field(0, description="per million prompt tokens, for the count")
    price_out: NonNegativeFloat = Field(0, description="per million completion tokens")

    @model_validator(mode="after")
    def _one_score(self) -> VlmJudge:
        if self.side == "diagnostic" and self.score is None:
            raise ValueError("a diagnostic needs a score: prompt or identity")
        return self


class Remote(RewardSection):
    """A reward behind `likewise serve-reward`, in another environment or on another machine.

    What it does not answer in time is missing, never 0. See docs/rewards.md.
    """

    kind: Literal["remote"] = "remote"
    url: Address = Field(description="as in http://127.0.0.1:8700")
    token_env: Variable | None = Field(
        None, description="environment variable that holds the service's token; null: none is sent"
    )
    batch: PositiveInt = Field(16, description="images per request")
    concurrency: PositiveInt = Field(4, description="requests at once, per process")
    timeout: PositiveFloat = Field(30, description="seconds for one try of a request")
    deadline: PositiveFloat = Field(
        60,
        le=MOST_SECONDS,
        description="seconds that an iteration waits at most, once all is drawn",
    )
    retries: NonNegativeInt = Field(3, description="further tries of a request that failed")
    break_after: PositiveInt = Field(
        8, description="failures in a row after which the service is left alone"
    )
    break_seconds: PositiveFloat = Field(30, description="for so long")
