"""Services to test against: the real application in a thread, on a free port of this machine."""

from __future__ import annotations

import io
import json
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from PIL import Image

from likewise.serve.app import DEFAULT_LIMITS
from likewise.serve.limits import Limits
from likewise.serve.running import make_server
from likewise.types import Task


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def served(app: Any, port: int | None = None, limits: Limits = DEFAULT_LIMITS) -> Iterator[str]:
    """The address of an ASGI application, while it runs in a thread, as the command runs it."""
    port = port or free_port()
    server = make_server(app, "127.0.0.1", port, limits)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        wait_for(lambda: server.started)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(60)
        assert not thread.is_alive()


def wait_for(ready: Any, seconds: float = 60) -> None:
    until = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < until, "not ready in time"
        time.sleep(0.02)


def make_image(seed: int, size: tuple[int, int] = (8, 6), mode: str = "RGB") -> Image.Image:
    """Noise, so that a pixel that differs is noticed."""
    shape = (size[1], size[0], 3) if mode == "RGB" else (size[1], size[0])
    pixels = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    return Image.fromarray(pixels, mode)


def full_task(seed: int) -> Task:
    """Every field is in use."""
    return Task(
        id=f"task-{seed}",
        prompt=f"a „duck“ — number {seed} 🦆",
        class_name="duck",
        subject="duck-1",
        category="bird",
        kind="scene",
        complexity=2,
        reference=make_image(100 + seed),
        reference_mask=make_image(200 + seed, mode="L"),
        other_photos=(make_image(300 + seed), make_image(400 + seed, (5, 9))),
        constraints={"scene": "beach"},
        more_references=(make_image(500 + seed),),
    )


def mean(images: Sequence[Image.Image], tasks: Sequence[Task]) -> list[float]:
    """A reward of the image alone."""
    return [float(np.asarray(image, np.float64).mean() / 255) for image in images]


def png(image: Image.Image) -> bytes:
    content = io.BytesIO()
    image.save(content, "PNG")
    return content.getvalue()


def document(rows: Sequence[dict[str, Any]], **more: Any) -> str:
    return json.dumps({"tasks": list(rows), **more})


def row(image: int = 0, reference: int = 0, **more: Any) -> dict[str, Any]:
    """The smallest task there is."""
    text = {"id": "1", "prompt": "a duck", "class_name": "duck", "subject": "d", "category": "b"}
    return {"image": image, "reference": reference, **text, "kind": "scene", "complexity": 1} | more


def parts(text: str | bytes, *images: bytes) -> list[tuple[str, Any]]:
    """A request as httpx2's `files`."""
    content = text if isinstance(text, bytes) else text.encode()
    return [
        ("tasks", (None, content, "application/json")),
        *(("images", ("x.png", one, "image/png")) for one in images),
    ]
