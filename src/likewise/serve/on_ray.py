"""The same application on many machines, under Ray Serve (extra ``ray``).

Ray starts replicas where there is room, spreads requests over them, and replaces those that die.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ray import serve

from likewise.serve.answers import RewardFunction
from likewise.serve.app import create_app


def deployment(load: Callable[[], RewardFunction], token: str | None = None, **options: Any) -> Any:
    """What ``ray.serve.run`` takes.

    Args:
        load: Called once by each replica, on its machine: loads models there.
        token: As for :func:`likewise.serve.app.create_app`.
        options: Of ``serve.deployment``: ``num_replicas``, ``ray_actor_options={"num_gpus": 1}``, …
    """
    ingress = serve.ingress(lambda: create_app(load(), token=token))  # built by each replica
    return serve.deployment(**options)(ingress(_Replica)).bind()


class _Replica:
    """Ray wants a class; the application does everything."""
