"""A rater that speaks HTTP, as the page's script does."""

from __future__ import annotations

import re
import secrets
from typing import Any

import httpx2

from likewise.people.files import PeopleStudy

LEAKS = re.compile(r"good|poor|check|reward|system|score|same|wrong", re.IGNORECASE)


class Rater:
    """One browser's cookies; `state` is what the server said last."""

    def __init__(self, url: str, study: PeopleStudy, **client: Any) -> None:
        self.base = f"{url}/rate/{study.settings.key}/"
        self.client = httpx2.Client(trust_env=False, timeout=60, **client)
        self.state: dict[str, Any] = {}

    def open(self) -> None:
        """Look at the page, as a browser does."""
        assert self.client.get(self.base).status_code == 200
        self.state = self.client.get(f"{self.base}state").json()

    def join(self) -> None:
        self.open()
        self.state = self.post("join", {}).json()

    def post(self, path: str, body: dict[str, Any]) -> httpx2.Response:
        return self.client.post(self.base + path, json=body)

    def body(self, choice: str = "left", **changes: Any) -> dict[str, Any]:
        """The vote that is asked for now."""
        now = {"showing": self.state["showing"], "question": self.state["question"]}
        return {
            **now,
            "choice": choice,
            "nonce": secrets.token_hex(8),
            "milliseconds": 900,
            **changes,
        }

    def vote(self, choice: str = "left") -> None:
        answer = self.post("vote", self.body(choice))
        assert answer.status_code == 200, answer.text
        self.state = answer.json()

    def finish(self, choice: str = "left") -> None:
        while self.state["showing"] is not None:
            self.vote(choice)
