"""What answers took and cost."""

from __future__ import annotations

from dataclasses import dataclass, fields


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
