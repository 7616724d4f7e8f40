"""An OpenAI-compatible server on a real socket, which can also misbehave in many ways."""

from __future__ import annotations

import base64
import io
import json
import socket
import struct
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from PIL import Image

USAGE = {"prompt_tokens": 1000, "completion_tokens": 50, "total_tokens": 1050}


@dataclass
class Asked:
    """One request as it arrived: header names in lower case."""

    path: str
    headers: Mapping[str, str]
    body: dict[str, Any]
    at: float  # time.monotonic()

    @property
    def urls(self) -> list[str]:
        """Those of its images: reference, generated."""
        parts = self.body["messages"][1]["content"]
        return [part["image_url"]["url"] for part in parts if part["type"] == "image_url"]

    @property
    def images(self) -> list[Image.Image]:
        return [decode(url) for url in self.urls]

    @property
    def texts(self) -> list[str]:
        return [part["text"] for part in self.body["messages"][1]["content"] if "text" in part]


@dataclass
class Told:
    """What to send: a status, headers and a body; or what goes wrong instead."""

    status: int = 200
    body: str | bytes = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    delay: float = 0  # seconds before the first byte
    hang: bool = False  # never answer
    reset: bool = False  # break the connection without an answer
    cut: bool = False  # end the connection amid the body
    drip: bool = False  # a byte now and then


Behaviour = Callable[[Asked], Told]


def decode(url: str) -> Image.Image:
    """The image in a data URL, whose MIME type has to be what the bytes are."""
    head, _, data = url.partition(",")
    image = Image.open(io.BytesIO(base64.b64decode(data, validate=True)))
    assert image.format is not None
    assert head == f"data:{Image.MIME[image.format]};base64"
    return image


def chat(content: Any, usage: Any = USAGE) -> str:
    """A chat completion around what the model wrote."""
    message = {"role": "assistant", "content": content, "refusal": None}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    return json.dumps({"object": "chat.completion", "choices": [choice], "usage": usage})


def verdict(concept: Any = 3, prompt: Any = 1, **changes: Any) -> str:
    fields = {
        "concept_reason": "same beak",
        "concept_preservation": concept,
        "prompt_reason": "no snow",
        "prompt_following": prompt,
    }
    return json.dumps({**fields, **changes})


def sound(asked: Asked) -> Told:
    """Scores that follow from the generated image's first pixel: (red, green, …) as they are."""
    red, green, _ = asked.images[1].getpixel((0, 0))
    return Told(body=chat(verdict(red, green)))


def says(content: Any) -> Behaviour:
    return lambda asked: Told(body=chat(content))


def error(status: int, message: str = "", **headers: str) -> Behaviour:
    body = json.dumps({"error": {"message": message, "type": "x", "code": None}})
    dashed = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda asked: Told(status, body, dashed)


class _Quiet(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that go away are meant to."""


class Server:
    """Answers the n-th request as `script[n]` says, and all further ones as `default` does."""

    def __init__(self) -> None:
        self.script: list[Behaviour] = []
        self.default: Behaviour = sound
        self.asked: list[Asked] = []
        self.most_at_once = 0
        self._now = 0
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._http = _Quiet(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()
        self.base_url = f"http://127.0.0.1:{self._http.server_address[1]}/v1"

    def close(self) -> None:
        self._over.set()
        self._http.shutdown()
        self._http.server_close()

    def _answer(self, asked: Asked) -> Told:
        with self._lock:
            self.asked.append(asked)
            behaviour = self.script.pop(0) if self.script else self.default
            self._now += 1
            self.most_at_once = max(self.most_at_once, self._now)
        try:
            answer = behaviour(asked)
            self._over.wait(3600 if answer.hang else answer.delay)
            return answer
        finally:
            with self._lock:
                self._now -= 1

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                headers = {name.lower(): value for name, value in self.headers.items()}
                asked = Asked(self.path, headers, json.loads(body), time.monotonic())
                self.respond(server._answer(asked))

            def respond(self, answer: Told) -> None:
                if answer.reset or answer.hang:
                    linger = struct.pack("ii", 1, 0)  # closing now sends a reset
                    self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                    self.close_connection = True
                    self.connection.close()
                    return
                data = answer.body.encode() if isinstance(answer.body, str) else answer.body
                try:
                    self.send_response(answer.status)
                    for name, value in answer.headers.items():
                        self.send_header(name, value)
                    self.send_header("Content-Length", str(len(data)))
                    self.end_headers()
                    for byte in data if answer.drip else b"":
                        self.wfile.write(bytes([byte]))
                        server._over.wait(0.05)
                    if not answer.drip:
                        self.wfile.write(data[: len(data) // 2] if answer.cut else data)
                except OSError:
                    self.close_connection = True  # the client has gone
                if answer.cut:
                    self.close_connection = True

            def log_message(self, *args: Any) -> None:
                pass

        return Handler
