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
    items = [files.item(image, task) for image, task in zip(images, tasks, strict=True)]
    document = json.dumps({"seconds": seconds, "tasks": items}).encode()
    parts: list[Part] = [
        ("images", (f"{index}.png", _png(file), "image/png"))
        for index, file in enumerate(files.images)
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
        self.indices: dict[int, int] = {}  # by identity

    def item(self, image: Image.Image, task: Task) -> Mapping[str, Any]:
        mask = task.reference_mask
        return {
            "image": self.index(image),
            "id": task.id,
            "prompt": task.prompt,
            "class_name": task.class_name,
            "subject": task.subject,
            "category": task.category,
            "kind": task.kind,
            "complexity": task.complexity,
            "constraints": dict(task.constraints),
            "reference": self.index(task.reference),
            "reference_mask": None if mask is None else self.index(mask),
            "other_photos": self.all(task.other_photos),
            "more_references": self.all(task.more_references),
        }

    def all(self, images: Iterable[Image.Image]) -> list[int]:
        return [self.index(image) for image in images]

    def index(self, image: Image.Image) -> int:
        if id(image) not in self.indices:
            self.indices[id(image)] = len(self.images)
            self.images.append(image)
        return self.indices[id(image)]
