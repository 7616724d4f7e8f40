"""What came of questions: why there is no verdict, and what the answers took and cost."""

from __future__ import annotations

from dataclasses import dataclass, fields


class JudgeError(RuntimeError):
    """No verdict about an image; another try would end alike. Its message never holds a key."""


class TransientError(JudgeError):
    """No verdict this time.

    Attributes:
        after: Seconds that the server asks to be left alone; 0 if it does not.
    """

    def __init__(self, message: str, after: float = 0) -> None:
        super().__init__(message)
        self.after = after


class UnknownFormatError(JudgeError):
    """The server does not know the `response_format` that was asked for."""


@dataclass
class Counts:
    """Sums over questions. What several of them share counts for the one that came first.

    Attributes:
        requests: HTTP requests sent.
        retries: Those of them that were further tries.
        cached: Verdicts read from the disk.
        shared: Questions answered by another question's request.
        missing: Questions without a verdict.
        prompt_tokens: As servers report them; so are the next.
        completion_tokens: Reasoning, where there is any, included.
        cost: Of these tokens, at the recipe's prices.
    """

    requests: int = 0
    retries: int = 0
    cached: int = 0
    shared: int = 0
    missing: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost: float = 0

    def add(self, other: Counts) -> None:
        for field in fields(self):
            setattr(self, field.name, getattr(self, field.name) + getattr(other, field.name))
