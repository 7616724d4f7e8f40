"""The application under Ray Serve, on one local node."""

from __future__ import annotations

import os
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

pytest.importorskip("ray.serve")
pytest.importorskip("fastapi")
import httpx2
import ray
from ray import serve
from serving import document, free_port, make_image, mean, parts, png, row

from likewise.serve.on_ray import deployment

TOKEN = "0123456789abcdef"
KNOWN = {"Authorization": f"Bearer {TOKEN}"}


def test_nothing_is_served_without_a_token(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whom Ray lets in is Ray's business, so a token is always asked for."""
    monkeypatch.delenv("LIKEWISE_SERVICE_TOKEN", raising=False)
    with pytest.raises(ValueError, match="LIKEWISE_SERVICE_TOKEN"):
        deployment(lambda: mean)


@pytest.mark.slow
def test_one_local_node(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two replicas: what the service answers elsewhere, it answers there."""
    monkeypatch.setenv("LIKEWISE_SERVICE_TOKEN", TOKEN)
    port = free_port()
    # Replicas unpickle the reward by its module's name, so they need our search path.
    paths = {"PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path))}
    ray.init(num_cpus=2, include_dashboard=False, runtime_env={"env_vars": paths})
    try:
        serve.start(http_options={"host": "127.0.0.1", "port": port})
        serve.run(deployment(lambda: mean, num_replicas=2), route_prefix="/reward")
        check(f"http://127.0.0.1:{port}/reward")
    finally:
        serve.shutdown()
        ray.shutdown()


def check(url: str) -> None:
    with httpx2.Client(trust_env=False, timeout=60) as client:

        def post(*images: bytes, **more: Any) -> httpx2.Response:
            files = parts(document([row()]), *images)
            return client.post(f"{url}/score", files=files, **more)

        assert post(png(make_image(1))).status_code == 401
        assert post(png(make_image(1)), headers={"Authorization": "Bearer no"}).status_code == 401
        assert post(b"no image", headers=KNOWN).status_code == 422
        assert post(bytes(33 * 2**20), headers=KNOWN).status_code == 413
        with ThreadPoolExecutor(8) as pool:
            asked = [pool.submit(post, png(make_image(n)), headers=KNOWN) for n in range(40)]
            for number, answer in enumerate(asked):
                assert answer.result(60).json() == {"values": mean([make_image(number)], [])}
        assert client.get(f"{url}/health").json() == {"status": "ok", "requests": 0, "waiting": 0}
        assert "likewise_reward_answers_total" in client.get(f"{url}/metrics", headers=KNOWN).text
