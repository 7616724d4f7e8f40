"""The service: what it answers, to whom, how it batches, and how it ends."""

from __future__ import annotations

import asyncio
import io
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx2
import numpy as np
import pytest
import torch

pytest.importorskip("fastapi")
from PIL import Image
from serving import document, full_task, make_image, mean, parts, png, row, served

from likewise.config.rewards import Remote
from likewise.rewards.remote import RemoteReward
from likewise.serve.answers import plain_numbers
from likewise.serve.app import create_app
from likewise.serve.batching import Batcher
from likewise.serve.counters import Counters
from likewise.serve.decoding import header_size
from likewise.serve.limits import Limits
from likewise.serve.running import is_loopback, read_token
from likewise.types import Task

TOKEN = "0123456789abcdef-a-secret"


def remote(url: str, **settings: Any) -> RemoteReward:
    return RemoteReward(Remote(url=url, side="prompt", **settings))


def test_images_and_tasks_arrive_bit_for_bit() -> None:
    seen: list[tuple[Image.Image, Task]] = []

    def reward(images: Sequence[Image.Image], tasks: Sequence[Task]) -> list[float | None]:
        seen.extend(zip(images, tasks, strict=True))
        return [None if task.id == "task-2" else image.getpixel((0, 0))[0] / 7 for image, task in
                zip(images, tasks, strict=True)]  # fmt: skip

    tasks = [full_task(n) for n in (1, 2, 3)] * 3
    images = [make_image(n) for n in range(9)]
    with served(create_app(reward, max_batch=4)) as url:
        values, valid = remote(url, batch=5).score(images, tasks)
    assert valid.tolist() == [True, False, True] * 3
    wanted = torch.tensor([np.asarray(one)[0, 0, 0] / 7 for one in images], dtype=torch.float32)
    assert torch.equal(values[valid], wanted[valid]) and values.dtype == torch.float32

    def bits(image: Image.Image) -> tuple[Any, ...]:
        return image.mode, image.size, image.tobytes()

    assert {bits(image) for image, _ in seen} == {bits(image) for image in images}
    for image, task in seen:
        sent = tasks[[bits(one) for one in images].index(bits(image))]
        for name, value in vars(sent).items():
            got = getattr(task, name)
            if isinstance(value, Image.Image):
                assert bits(got) == bits(value), name
            elif name in ("other_photos", "more_references"):
                assert list(map(bits, got)) == list(map(bits, value)), name
            else:
                assert got == value, name


def test_webp_is_read_as_png_is() -> None:
    """Its three kinds of header: VP8L, VP8, VP8X."""
    variants = [{"lossless": True}, {"quality": 50}, {"lossless": True, "exif": b"Exif\0\0x"}]
    with served(create_app(mean)) as url, httpx2.Client(trust_env=False) as client:
        for size in ((1, 1), (37, 20), (300, 2)):
            image = make_image(5, size)
            for options in variants:
                content = io.BytesIO()
                image.save(content, "WEBP", **options)
                assert header_size(content.getvalue()) == size
                answer = client.post(
                    f"{url}/score", files=parts(document([row()]), content.getvalue())
                )
                decoded = Image.open(content).convert("RGB")
                assert answer.json() == {"values": mean([decoded], [])}


@pytest.mark.parametrize(
    ("answer", "wanted"),
    [
        ([1, 2.5, None], [1, 2.5, None]),
        ((1, 2, 3), [1, 2, 3]),
        (np.array([1, np.nan, np.inf]), [1, None, None]),
        (torch.tensor([1.0, 2.0, 3.0], dtype=torch.bfloat16), [1, 2, 3]),
        ((torch.ones(3), torch.tensor([True, False, True])), [1, None, 1]),
        (([1, 2, 3], [True, True, False]), [1, 2, None]),
    ],
)
def test_answers_become_plain_numbers(answer: Any, wanted: Any) -> None:
    assert plain_numbers(answer, 3) == wanted


@pytest.mark.parametrize(
    "answer",
    [None, 0.5, "abc", [1, 2], [[1], [2], [3]], torch.ones(3, 1), ["1", "2", "3"], {1: 2},
     (torch.ones(3), torch.ones(2)), np.ones(())],
)  # fmt: skip
def test_other_answers_are_refused(answer: Any) -> None:
    with pytest.raises(ValueError, match="the reward returned"):
        plain_numbers(answer, 3)


def test_two_images_and_a_tuple() -> None:
    assert plain_numbers((0.5, None), 2) == [0.5, None]
    assert plain_numbers((torch.tensor(0.5), torch.tensor(1.0)), 2) == [0.5, 1]
    assert plain_numbers(([0.5, 1], [True, False]), 2) == [0.5, None]


def test_nobody_without_the_token(monkeypatch: pytest.MonkeyPatch) -> None:
    good = parts(document([row()]), png(make_image(1)))
    with served(create_app(mean, token=TOKEN)) as url, httpx2.Client(trust_env=False) as client:
        for header in (None, "Bearer", "Bearer wrong", TOKEN, f"bearer {TOKEN}",
                       f"Bearer {TOKEN}x", f"Bearer {TOKEN[:-1]}", "Basic eDp5"):  # fmt: skip
            headers = {} if header is None else {"Authorization": header}
            for path in ("/score", "/metrics"):
                method = "POST" if path == "/score" else "GET"
                files = good if method == "POST" else None
                answer = client.request(method, url + path, headers=headers, files=files)
                assert answer.status_code == 401, (header, path)
                assert answer.headers["WWW-Authenticate"] == "Bearer"
                assert TOKEN not in answer.text
        assert client.get(f"{url}/health").status_code == 200
        right = {"Authorization": f"Bearer {TOKEN}"}
        assert client.post(f"{url}/score", headers=right, files=good).status_code == 200

        with pytest.raises(ValueError, match="TOKEN_OF_MINE is not set"):
            remote(url, token_env="TOKEN_OF_MINE")
        monkeypatch.setenv("TOKEN_OF_MINE", "wrong-but-long-enough")
        pending = remote(url, token_env="TOKEN_OF_MINE").submit([make_image(1)], [full_task(1)])
        assert pending.result(time.monotonic())[1].tolist() == [False]
        assert pending.counts["failed/refused"] == 1 and "401" in pending.problem
        monkeypatch.setenv("TOKEN_OF_MINE", TOKEN)
        reward = remote(url, token_env="TOKEN_OF_MINE")
        assert reward.score([make_image(1)], [full_task(1)])[1].tolist() == [True]


def test_other_machines_need_a_token(monkeypatch: pytest.MonkeyPatch) -> None:
    assert all(map(is_loopback, ("127.0.0.1", "127.9.9.9", "::1", "localhost")))
    assert not any(map(is_loopback, ("0.0.0.0", "::", "10.0.0.1", "example.org", "")))
    monkeypatch.delenv("LIKEWISE_SERVICE_TOKEN", raising=False)
    assert read_token("127.0.0.1") is None
    with pytest.raises(ValueError, match=r"0\.0\.0\.0 is open.*LIKEWISE_SERVICE_TOKEN"):
        read_token("0.0.0.0")
    for bad in (
        "",
        "short",
        "with spaces in between",
        "tabs\tand\tmore\ttabs",
        "ümlaute-are-bad-x",
    ):
        monkeypatch.setenv("LIKEWISE_SERVICE_TOKEN", bad)
        with pytest.raises(ValueError, match="16 printable") as caught:
            read_token("127.0.0.1")
        assert not bad or bad not in str(caught.value)
        if " " in bad:
            monkeypatch.setenv("TOKEN_OF_MINE", bad)
            with pytest.raises(ValueError, match="token_env: TOKEN_OF_MINE holds no key"):
                remote("http://127.0.0.1:1", token_env="TOKEN_OF_MINE")
    monkeypatch.setenv("LIKEWISE_SERVICE_TOKEN", TOKEN)
    assert read_token("0.0.0.0") == TOKEN


def test_requests_share_batches_and_a_bad_one_spoils_no_other() -> None:
    sizes: list[int] = []
    gate = threading.Event()

    def reward(images: Sequence[Image.Image], tasks: Sequence[Task]) -> list[float]:
        gate.wait(30)
        sizes.append(len(images))
        if any(task.prompt == "bad" for task in tasks):
            raise RuntimeError("no such prompt")
        return mean(images, tasks)

    def ask(number: int) -> httpx2.Response:
        prompt = "bad" if number == 3 else "good"
        return httpx2.post(
            f"{url}/score",
            files=parts(document([row(prompt=prompt)] * 2), png(make_image(number))),
            trust_env=False,
            timeout=60,
        )

    with (
        served(create_app(reward, max_batch=8, max_wait=0.5)) as url,
        ThreadPoolExecutor(9) as pool,
    ):
        answers = [pool.submit(ask, number) for number in range(9)]

        def waiting() -> bool:
            return httpx2.get(f"{url}/health", trust_env=False).json()["requests"] == 9

        while not waiting():
            time.sleep(0.02)
        gate.set()
        for number, answer in enumerate(answers):
            got = answer.result(60)
            if number == 3:
                assert got.status_code == 500
                assert "RuntimeError: no such prompt" in got.json()["detail"]
            else:
                assert got.json() == {"values": mean([make_image(number)] * 2, [])}
        text = httpx2.get(f"{url}/metrics", trust_env=False).text
    assert max(sizes) == 8  # four requests in one
    assert 'likewise_reward_answers_total{status="500"} 1.0' in text
    assert 'likewise_reward_images_total{outcome="scored"} 16.0' in text
    assert f"likewise_reward_batch_size_count {len(sizes)}.0" in text


def test_who_comes_too_many_is_told_to_come_back() -> None:
    """Back-pressure by number of requests and by pixels; nothing of it stays behind."""
    gate = threading.Event()

    def reward(images: Sequence[Image.Image], tasks: Sequence[Task]) -> list[float]:
        gate.wait(30)
        return mean(images, tasks)

    limits = Limits(requests=2, held_pixels=3000)
    good = parts(document([row()]), png(make_image(1, (40, 50))))
    small = parts(document([row()]), png(make_image(1)))
    app = create_app(reward, limits=limits)
    with (
        served(app) as url,
        ThreadPoolExecutor(2) as pool,
        httpx2.Client(trust_env=False) as client,
    ):

        def post(files: Any) -> httpx2.Response:
            return httpx2.post(f"{url}/score", files=files, trust_env=False, timeout=60)

        def requests() -> int:
            return client.get(f"{url}/health").json()["requests"]

        first = pool.submit(post, good)
        while requests() < 1:
            time.sleep(0.02)
        by_pixels = post(good)  # 2000 of 3000 pixels are taken
        assert (by_pixels.status_code, by_pixels.headers["Retry-After"]) == (503, "1")
        second = pool.submit(post, small)
        while requests() < 2:
            time.sleep(0.02)
        by_number = post(small)
        assert (by_number.status_code, by_number.headers["Retry-After"]) == (503, "1")
        assert post(parts("x" * 100)).status_code == 503  # before anything is read of it
        gate.set()
        assert first.result(60).status_code == second.result(60).status_code == 200
        assert requests() == 0
        never = parts(document([row(), row(image=1)]), *[png(make_image(1, (40, 50)))] * 2)
        assert post(never).status_code == 413
        assert post(good).status_code == 200


def test_who_no_longer_waits_is_not_scored() -> None:
    calls: list[str] = []

    def reward(images: Sequence[Image.Image], tasks: Sequence[Task]) -> list[float]:
        calls.extend(task.id for task in tasks)
        time.sleep(0.5)
        return mean(images, tasks)

    async def main(url: str) -> list[int]:
        async with httpx2.AsyncClient(trust_env=False, timeout=60) as client:

            def post(name: str, seconds: float) -> Any:
                text = document([row(id=name)], seconds=seconds)
                return client.post(f"{url}/score", files=parts(text, png(make_image(1))))

            first = asyncio.create_task(post("first", 60))
            await asyncio.sleep(0.2)
            answers = await asyncio.gather(post("late", 0.01), post("patient", 60))
            return [one.status_code for one in (await first, *answers)]

    with served(create_app(reward, max_batch=1, max_wait=0)) as url:
        assert asyncio.run(main(url)) == [200, 504, 200]
    assert calls == ["first", "patient"]


def test_a_request_that_is_cancelled_holds_nobody_up() -> None:
    """Ray Serve cancels those whose client is gone: also when their time is up by then."""
    started, gate = threading.Event(), threading.Event()

    def reward(images: Sequence[Image.Image], tasks: Sequence[Task]) -> list[float]:
        started.set()
        gate.wait(30)
        return mean(images, tasks)

    async def main() -> list[list[float | None]]:
        batcher = Batcher(reward, max_batch=1, max_wait=0, counters=Counters())

        def ask(number: int, seconds: float) -> asyncio.Task[list[float | None]]:
            asked = batcher.score([make_image(number)], [full_task(number)], seconds)
            return asyncio.create_task(asked)

        async with batcher.running():
            first = ask(1, 60)
            await asyncio.to_thread(started.wait, 30)
            gone = ask(2, 0.01)
            await asyncio.sleep(0.05)
            gone.cancel()
            gate.set()
            return [await asyncio.wait_for(one, 30) for one in (first, ask(3, 60))]

    assert asyncio.run(main()) == [mean([make_image(n)], []) for n in (1, 3)]


# ── what a reward may do, and a request may ask ──


@pytest.mark.parametrize(
    "error", [SystemExit(3), KeyboardInterrupt(), GeneratorExit(), asyncio.CancelledError()]
)
def test_a_reward_cannot_end_the_service(error: BaseException) -> None:
    answers: list[BaseException | None] = [error, error, None]

    def reward(images: Sequence[Image.Image], tasks: Sequence[Task]) -> list[float]:
        if (now := answers.pop(0)) is not None:
            raise now
        return mean(images, tasks)

    files = parts(document([row()]), png(make_image(1)))
    with served(create_app(reward)) as url:
        for _ in range(2):
            got = httpx2.post(f"{url}/score", files=files, trust_env=False, timeout=30)
            assert got.status_code == 500
            assert f"tried to end the service: {type(error).__name__}" in got.json()["detail"]
        got = httpx2.post(f"{url}/score", files=files, trust_env=False, timeout=30)
        assert got.json() == {"values": mean([make_image(1)], [])}


@pytest.mark.parametrize(
    ("rows", "status"),
    [
        ([row()] * 4, 200),
        ([row()] * 5, 413),
        ([row(other_photos=[0] * 4, more_references=[0] * 4)], 200),
        ([row(other_photos=[0] * 5)], 413),
        ([row(more_references=[0] * 5)], 413),
    ],
)
def test_rows_are_limited_as_files_are(rows: list[dict[str, Any]], status: int) -> None:
    files = parts(document(rows), png(make_image(1)))
    with served(create_app(mean, limits=Limits(images=4))) as url:
        got = httpx2.post(f"{url}/score", files=files, trust_env=False, timeout=30)
    assert got.status_code == status, got.text
