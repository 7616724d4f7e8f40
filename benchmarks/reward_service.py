"""What batching is worth, and how much of the scoring hides behind drawing: ratios within one run.

    python benchmarks/reward_service.py --images 64 --call-ms 20 --image-ms 2

A made-up reward takes a fixed time per call and a time per image, as encoders do on a GPU. The
ratios say how near the service comes to what these two numbers allow; seconds say nothing.
"""

from __future__ import annotations

import argparse
import socket
import threading
import time
from collections.abc import Callable, Sequence

import numpy as np
import uvicorn
from PIL import Image

from likewise.config.rewards import Remote
from likewise.rewards.remote import RemoteReward
from likewise.rollout.scoring import Asked
from likewise.serve.app import create_app
from likewise.types import Task


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--side", type=int, default=64, help="of an image, in pixels")
    parser.add_argument("--call-ms", type=float, default=20)
    parser.add_argument("--image-ms", type=float, default=2)
    parser.add_argument("--micro-batch", type=int, default=8, help="images drawn at a time")
    options = parser.parse_args()
    reward = reward_taking(options.call_ms / 1000, options.image_ms / 1000)
    images, tasks = made_up(options.images, options.side)

    seconds = {}
    for max_batch in (1, 32):
        far = RemoteReward(service(reward, max_batch))
        far.score(images, tasks)  # connections, threads
        seconds[max_batch] = timed(lambda far=far: far.score(images, tasks))
    best = (options.call_ms + options.image_ms) / (options.call_ms / 32 + options.image_ms)
    print(f"batches of 32 against one by one: {seconds[1] / seconds[32]:.2f} times the throughput")
    print(f"(the reward itself allows {best:.2f})")

    # Drawing a micro-batch takes as long as scoring it: all but the last could be hidden.
    pause = (options.call_ms + options.image_ms * options.micro_batch) / 1000
    parts = [
        slice(start, start + options.micro_batch)
        for start in range(0, len(images), options.micro_batch)
    ]

    def roll_out(wait_at_once: bool) -> None:
        asked = []
        for part in parts:
            time.sleep(pause)
            asked.append(Asked({"far": far}, images[part], tasks[part]))
            if wait_at_once:
                asked[-1].scores(time.monotonic())
        if not wait_at_once:
            since = time.monotonic()
            for one in asked:
                one.scores(since)

    drawing = pause * len(parts)
    one_after_another = timed(lambda: roll_out(True)) - drawing
    overlapped = timed(lambda: roll_out(False)) - drawing
    print(f"scoring hidden behind drawing: {1 - overlapped / one_after_another:.0%}")
    print(f"(all but the last of {len(parts)} micro-batches is {1 - 1 / len(parts):.0%})")


def reward_taking(per_call: float, per_image: float) -> Callable[..., list[float]]:
    def reward(images: Sequence[Image.Image], tasks: Sequence[Task]) -> list[float]:
        time.sleep(per_call + per_image * len(images))
        return [0.5] * len(images)

    return reward


def service(reward: Callable[..., list[float]], max_batch: int) -> Remote:
    """Serve in a thread; how to reach it, with requests of as many images."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    app = create_app(reward, max_batch=max_batch)
    server = uvicorn.Server(uvicorn.Config(app, "127.0.0.1", port, log_level="warning"))
    threading.Thread(target=server.run, daemon=True).start()
    while not server.started:
        time.sleep(0.01)
    return Remote(url=f"http://127.0.0.1:{port}", side="prompt", batch=min(16, max_batch))


def made_up(count: int, side: int) -> tuple[list[Image.Image], list[Task]]:
    pixels = np.random.default_rng(0).integers(0, 256, (count, side, side, 3), dtype=np.uint8)
    images = [Image.fromarray(one) for one in pixels]
    tasks = [
        Task(str(n), "a duck", "duck", "duck", "bird", "scene", 1, reference=images[0])
        for n in range(count)
    ]
    return images, tasks


def timed(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
