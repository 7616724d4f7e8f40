"""The application under Ray Serve, on one local node."""

from __future__ import annotations

import pytest

pytest.importorskip("ray.serve")
pytest.importorskip("fastapi")
import httpx2
import ray
from ray import serve
from serving import document, free_port, mean, parts, picture, png, row

from likewise.serve.on_ray import deployment

TOKEN = "0123456789abcdef"


@pytest.mark.slow
def test_one_local_node() -> None:
    port = free_port()
    ray.init(num_cpus=1, include_dashboard=False)
    try:
        serve.start(http_options={"host": "127.0.0.1", "port": port})
        serve.run(deployment(lambda: mean, TOKEN), route_prefix="/reward")
        url, known = f"http://127.0.0.1:{port}/reward", {"Authorization": f"Bearer {TOKEN}"}
        files = parts(document([row()]), png(picture(1)))
        with httpx2.Client(trust_env=False, timeout=60) as client:
            assert client.post(f"{url}/score", files=files).status_code == 401
            answer = client.post(f"{url}/score", files=files, headers=known)
            assert answer.json() == {"values": mean([picture(1)], [])}
            assert client.get(f"{url}/health").json()["status"] == "ok"
    finally:
        serve.shutdown()
        ray.shutdown()
