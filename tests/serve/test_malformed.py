"""A thousand requests that no client of ours would send: all 4xx, and the service works on."""

from __future__ import annotations

import io
import itertools
import json
import random
import socket
import struct
import zlib
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import psutil
import pytest

pytest.importorskip("fastapi")
from commands import command
from PIL import Image
from serving import document, make_image, mean, parts, png, row, served

from likewise.serve.app import create_app
from likewise.serve.limits import Limits

LIMITS = Limits(request_bytes=300_000, images=6, pixels=10_000, held_pixels=40_000, seconds=20)
TOKEN = "0123456789abcdef-a-secret"
GOOD = png(make_image(1))
JSON = document([row()])
Request = dict[str, Any]


def multipart(content: bytes, boundary: str = "b") -> Request:
    kind = f"multipart/form-data; boundary={boundary}"
    return {"content": content, "headers": {"Content-Type": kind}}


def part(name: str, content: bytes, more: str = "") -> bytes:
    head = f'--b\r\nContent-Disposition: form-data; name="{name}"{more}\r\n\r\n'
    return head.encode() + content + b"\r\n"


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    content = io.BytesIO()
    image.save(content, kind, **options)
    return content.getvalue()


def chunk(name: bytes, content: bytes) -> bytes:
    check = zlib.crc32(name + content)
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", check)


def claimed_png(width: int, height: int) -> bytes:
    """A PNG of that size as its header says, with few pixels in it."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    data = chunk(b"IDAT", zlib.compress(bytes(1000)))
    return b"\x89PNG\r\n\x1a\n" + header + data + chunk(b"IEND", b"")


def claimed_webp(kind: bytes, start: bytes) -> bytes:
    body = b"WEBP" + kind + struct.pack("<I", len(start)) + start + bytes(40)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def bad_bodies(chance: random.Random) -> Iterator[Request]:
    noise = chance.randbytes(chance.randrange(1, 3000))
    whole = part("tasks", JSON.encode()) + part("images", GOOD, '; filename="x"') + b"--b--\r\n"
    yield {"content": noise}
    yield {
        "content": noise,
        "headers": {"Content-Type": chance.choice(["text/plain", "x", "a/b;"])},
    }
    yield {"content": JSON.encode(), "headers": {"Content-Type": "application/json"}}
    yield {"content": b"tasks=1", "headers": {"Content-Type": "application/x-www-form-urlencoded"}}
    yield {"content": whole, "headers": {"Content-Type": "multipart/form-data"}}
    yield multipart(noise)
    yield multipart(whole, chance.choice(["c", "bb", "B"]))
    yield multipart(whole[: chance.randrange(0, whole.index(b"IHDR"))])
    yield multipart(part("tasks", JSON.encode()) + noise)
    yield multipart(part("tasks", JSON.encode()) * 2 + b"--b--\r\n")
    yield multipart(part("tasks", JSON.encode(), '; filename="f"') + b"--b--\r\n")
    yield multipart(part("images", GOOD) + b"--b--\r\n")
    yield multipart(part("other", b"1") + whole)
    yield multipart(part("other", GOOD, '; filename="x"') + whole)
    yield multipart(b"--b\r\n" + noise.hex().encode() + b": x\r\n\r\n\r\n--b--\r\n")
    yield multipart(b"--b\r\nContent-Disposition: form-data\r\n\r\nx\r\n--b--\r\n")


def bad_documents(chance: random.Random) -> Iterator[Request]:
    good = row()
    texts: list[str | bytes] = [
        "", "null", "[]", "{}", "1", '"x"', "NaN", JSON[: chance.randrange(1, len(JSON))],
        chance.randbytes(50), b"\xff\xfe" + JSON.encode("utf-16-le"),
        "[" * 100_000, '{"tasks":' * 20_000, '{"tasks": [' + "9" * 5000 + "]}",
        JSON.replace("a duck", "\\ud800"), JSON + "x" * (2**20),
        document([]), document([None]), document(["x"]), document([[]]), document([good], more=1),
    ]  # fmt: skip
    texts += [json.dumps({"tasks": value}) for value in (None, 1, "x", good, {"0": good})]
    seconds = (0, -1, 1e9, "5", None, True, [1])
    texts += [document([good], seconds=value) for value in seconds]
    texts += [JSON[:-1] + ', "seconds": NaN}', JSON[:-1] + ', "seconds": Infinity}']
    for name in good:
        texts.append(document([{key: value for key, value in good.items() if key != name}]))
        texts += [document([good | {name: value}]) for value in (None, [], {}, 1.5)]
    for name in ("image", "reference", "reference_mask"):
        texts += [document([good | {name: value}]) for value in (-1, 1, 10**9, 10**30, "0", True)]
    for name in ("other_photos", "more_references"):
        texts += [document([good | {name: value}]) for value in ([1], [-1], 0, ["0"], [[0]], {})]
    texts += [
        document([good | {"constraints": value}]) for value in ([], "x", {"a": 1}, {"a": None})
    ]
    texts += [document([good | {chance.choice("xyz") * 3: 1}]), document([good, {}])]
    for text in texts:
        yield {"files": parts(text, GOOD)}


def bad_images(chance: random.Random) -> Iterator[Request]:
    image = make_image(chance.randrange(1000), (20, 20))
    sound, webp = saved(image, "PNG"), saved(image, "WEBP", lossless=True)
    see_through = image.convert("RGBA")
    see_through.putalpha(100)  # WebP drops an alpha that is opaque
    frames = {"save_all": True, "append_images": [make_image(2, (20, 20))]}
    damaged = bytearray(sound)
    damaged[chance.randrange(60, len(sound) - 20)] ^= 255
    low = struct.pack("<I", 0x2F | (16382 | 16382 << 14) << 8 & 0xFFFFFFFF)
    files = [
        b"", b"\x89PNG\r\n\x1a\n", chance.randbytes(500), b"<svg/>", b"GIF89a" + bytes(50),
        sound[: chance.randrange(30, len(sound) - 20)], webp[: chance.randrange(1, len(webp) - 20)],
        bytes(damaged), saved(image, "JPEG"), saved(image, "GIF"), saved(image, "TIFF"),
        saved(image, "BMP"), saved(image, "PPM"), saved(image.convert("RGBA"), "PNG"),
        saved(image.convert("L"), "PNG"), saved(image.convert("P"), "PNG"),
        saved(image.convert("1"), "PNG"), saved(image.convert("I;16"), "PNG"),
        saved(image, "PNG", **frames), saved(image, "WEBP", **frames),
        saved(see_through, "WEBP", lossless=True),
        saved(make_image(1, (101, 100)), "PNG"), saved(make_image(1, (101, 100)), "WEBP"),
        claimed_png(60_000, 60_000), claimed_png(2**31 - 1, 2**31 - 1), claimed_png(0, 5),
        claimed_png(90, 90), claimed_png(5, 0),
        claimed_webp(b"VP8X", b"\0" * 4 + b"\xff" * 6), claimed_webp(b"VP8X", bytes(10)),
        claimed_webp(b"VP8L", b"\x2f" + b"\xff" * 9), claimed_webp(b"VP8L", low + bytes(6)),
        claimed_webp(b"VP8 ", b"\0\0\0\x9d\x01\x2a\xff\x3f\xff\x3f"),
        claimed_webp(b"VP8 ", bytes(10)), claimed_webp(b"ABCD", bytes(10)),
    ]  # fmt: skip
    for one in files:
        yield {"files": parts(JSON, one)}
        yield {"files": parts(JSON, GOOD, one)}  # also where no task names it
    yield {"files": parts(document([row(reference_mask=0)]), GOOD)}
    mask = png(make_image(3, (5, 5), "L"))
    yield {"files": parts(document([row(reference_mask=1)]), GOOD, mask)}
    yield {"files": parts(document([row(image=1)]), GOOD, mask)}
    yield {"files": parts(JSON, *[GOOD] * 7)}
    full = png(make_image(1, (100, 100)))
    yield {"files": parts(JSON, *[full] * 5)}


def too_large(chance: random.Random) -> Iterator[Request]:
    size = chance.randrange(LIMITS.request_bytes, 3 * LIMITS.request_bytes)
    yield {"files": parts(JSON, bytes(size))}
    yield {"content": bytes(size)}
    yield {"content": (bytes(10_000) for _ in range(size // 10_000 + 1))}  # without a length
    start = part("tasks", JSON.encode()) + b"--b\r\n"
    yield multipart(start + b'Content-Disposition: form-data; name="images"; filename="' + bytes(size))  # noqa: E501  # fmt: skip


def generated(count: int) -> Iterator[Request]:
    kinds = (bad_bodies, bad_documents, bad_images, too_large)
    rounds = (kind(random.Random(seed)) for seed in itertools.count() for kind in kinds)
    return itertools.islice(itertools.chain.from_iterable(rounds), count)


def test_a_thousand_bad_requests() -> None:
    """Against the command in a process of its own, four at a time, with good ones in between."""
    good = {"files": parts(document([row(), row(image=1)]), GOOD, png(make_image(2)))}
    wanted = {"values": mean([make_image(1), make_image(2)], [])}
    words = ["--max-request-mb", str(LIMITS.request_bytes / 2**20)]
    words += ["--max-images", str(LIMITS.images), "--max-pixels", str(LIMITS.pixels)]
    with (
        command("serve-reward", "serving:mean", *words, LIKEWISE_SERVICE_TOKEN=TOKEN) as (own, url),
        httpx2.Client(trust_env=False, timeout=60) as client,
        ThreadPoolExecutor(4) as pool,
    ):

        def post(request: Request, token: str | None = TOKEN) -> httpx2.Response:
            known = {} if token is None else {"Authorization": f"Bearer {token}"}
            headers = request.get("headers", {}) | known
            return client.post(f"{url}/score", **request | {"headers": headers})

        def ask(number: int, request: Request) -> int:
            answer = post(request)
            assert 400 <= answer.status_code < 500, (number, request, answer.text)
            assert "Traceback" not in answer.text and len(answer.content) < 2000
            if number % 50 == 0:
                assert post(good).json() == wanted
            return answer.status_code

        assert post(good).json() == wanted
        before = peak_memory(own.pid)
        statuses = Counter(pool.map(ask, range(1000), generated(1000)))
        assert statuses.total() == 1000 and set(statuses) == {400, 413, 415, 422}, statuses
        for number, request in enumerate(generated(150)):  # whatever it is, and however large
            assert post(request, None if number % 2 else TOKEN + "x").status_code == 401
        for bomb in bombs():  # refused or not: what is beyond the pixels is not unpacked
            assert post({"files": parts(JSON, bomb)}).status_code in (200, 422)
        assert post(good).json() == wanted
        assert client.get(f"{url}/health").json() == {"status": "ok", "requests": 0, "waiting": 0}
        grown = peak_memory(own.pid) - before
        print(statuses, f"{grown / 2**20:.0f} MB more")
        assert grown < 64 * 2**20
        for method, path, status in (
            ("GET", "/score", 405),
            ("POST", "/", 404),
            ("PUT", "/x", 404),
        ):
            assert client.request(method, url + path, content=b"x").status_code == status


def peak_memory(process: int) -> int:
    """Bytes that it had resident at most; elsewhere than on Linux, what it has now."""
    status = Path(f"/proc/{process}/status")
    if not status.exists():
        return psutil.Process(process).memory_info().rss
    (line,) = [line for line in status.read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) * 1024


def bombs() -> Iterator[bytes]:
    """Images of a few pixels in 100 kB, and 100 MB when all in them is inflated."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 8, 6, 8, 2, 0, 0, 0))
    rows, large = zlib.compress(bytes(6 * 25)), zlib.compress(bytes(100 * 2**20))
    start, end = b"\x89PNG\r\n\x1a\n" + header, chunk(b"IEND", b"")
    yield start + chunk(b"IDAT", large) + end
    text = chunk(b"zTXt", b"Comment\0\0" + large)
    yield start + text + chunk(b"IDAT", rows) + end
    yield start + chunk(b"IDAT", rows) + text + end
    yield start + chunk(b"iTXt", b"Comment\0\1\0\0\0" + large) + chunk(b"IDAT", rows) + end
    yield start + chunk(b"iCCP", b"icc\0\0" + large) + chunk(b"IDAT", rows) + end


def test_who_sends_too_slowly_is_cut_off() -> None:
    slow = Limits(seconds=0.5)
    with served(create_app(mean, limits=slow)) as url:
        port = int(url.rsplit(":", 1)[1])
        with socket.create_connection(("127.0.0.1", port), timeout=30) as line:
            kind = b"Content-Type: multipart/form-data; boundary=b\r\n"
            line.sendall(
                b"POST /score HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n" + kind + b"\r\n--b"
            )
            answer = b"".join(iter(lambda: line.recv(4096), b""))  # until it is closed
        assert answer.startswith(b"HTTP/1.1 408 ") and b"took longer than 0.5 s" in answer


START = b"POST /score HTTP/1.1\r\nHost: x\r\n"


@pytest.mark.parametrize(
    "head",
    [
        b"\x16\x03\x01\x02\x00\x01",
        b"GET\r\n\r\n",
        START + b"Content-Length: -5\r\n\r\n",
        START + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nxxxxx",
        START + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
    ],
)
def test_what_is_not_even_http(head: bytes) -> None:
    with served(create_app(mean)) as url:
        port = int(url.rsplit(":", 1)[1])
        with socket.create_connection(("127.0.0.1", port), timeout=30) as line:
            line.sendall(head + b"\r\n\r\n")
            answer = b"".join(iter(lambda: line.recv(4096), b""))
        assert answer.startswith(b"HTTP/1.1 4")
