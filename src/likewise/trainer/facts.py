"""What is known of a task everywhere: its images stay in the processes that draw it."""

from __future__ import annotations

from dataclasses import dataclass

from likewise.fingerprints import fingerprint
from likewise.types import Task


@dataclass(frozen=True)
class Facts:
    """Of a task, by the names that it has there.

    Attributes:
        photos: Fingerprints of all images of its subject, so that evaluations know them again;
            None where nobody will ask.
    """

    id: str
    prompt: str
    subject: str
    kind: str
    complexity: int
    photos: tuple[str, ...] | None = None

    @classmethod
    def of(cls, task: Task, photos: bool) -> Facts:
        """`photos`: Whether fingerprints are wanted."""
        found = None
        if photos:
            found = tuple(fingerprint(one) for one in (*task.references, *task.other_photos))
        return cls(task.id, task.prompt, task.subject, task.kind, task.complexity, found)
