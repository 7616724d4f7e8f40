"""Images and tasks → the parts of a request to a reward service (`likewise.serve.documents`)."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from PIL import Image

from likewise.types import Task

Part = tuple[str, tuple[str | None, bytes, str]]  # field, and its file name, content and type


def pack(images: Sequence[Image.Image], tasks: Sequence[Task], seconds: float) -> list[Part]:
    """All that the tasks hold, bit for bit; an image that several of them share goes once.

    Args:
        seconds: How long the answer is waited for.
    """
    files = _Files()
    rows = [files.row(image, task) for image, task in zip(images, tasks, strict=True)]
    document = json.dumps({"seconds": seconds, "tasks": rows}).encode()
    parts: list[Part] = [
        ("images", (f"{place}.png", _png(file), "image/png"))
        for place, file in enumerate(files.images)
    ]
    return [("tasks", (None, document, "application/json")), *parts]


def _png(image: Image.Image) -> bytes:
    content = io.BytesIO()
    # No metadata; and quickly, since networks are faster than zlib.
    Image.frombytes(image.mode, image.size, image.tobytes()).save(content, "PNG", compress_level=1)
    return content.getvalue()


class _Files:
    """Images of one request, each object once."""

    def __init__(self) -> None:
        self.images: list[Image.Image] = []
        self.places: dict[int, int] = {}  # by identity

    def row(self, image: Image.Image, task: Task) -> Mapping[str, Any]:
        mask = task.reference_mask
        return {
            "image": self.place(image),
            "id": task.id,
            "prompt": task.prompt,
            "class_name": task.class_name,
            "subject": task.subject,
            "category": task.category,
            "kind": task.kind,
            "complexity": task.complexity,
            "constraints": dict(task.constraints),
            "reference": self.place(task.reference),
            "reference_mask": None if mask is None else self.place(mask),
            "other_photos": self.all(task.other_photos),
            "more_references": self.all(task.more_references),
        }

    def all(self, images: Iterable[Image.Image]) -> list[int]:
        return [self.place(image) for image in images]

    def place(self, image: Image.Image) -> int:
        if id(image) not in self.places:
            self.places[id(image)] = len(self.images)
            self.images.append(image)
        return self.places[id(image)]
