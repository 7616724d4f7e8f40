"""Why an image has no verdict. Messages are safe to show: they never hold a key."""

from __future__ import annotations


class JudgeError(RuntimeError):
    """No verdict about an image; another try would end alike."""


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
