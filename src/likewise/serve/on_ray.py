"""The same application on many machines, under Ray Serve (extra ``ray``).

Ray starts replicas where resources are free, spreads requests over them, and replaces those that
die.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ray import serve

from likewise.serve.answers import RewardFunction
from likewise.serve.app import DEFAULT_LIMITS, create_app
from likewise.serve.running import read_token


def deployment(load: Callable[[], RewardFunction], token: str | None = None, **options: Any) -> Any:
    """What ``ray.serve.run`` takes.

    Args:
        load: Called once by each replica, on its machine: loads models there.
        token: What clients must send; None: what the environment holds, as for `serve-reward`.
            There is no service without one, since whom Ray listens to is not known here.
        options: Of ``serve.deployment``: ``num_replicas``, ``ray_actor_options={"num_gpus": 1}``, …

    Raises:
        ValueError: there is no token, or one that `read_token` refuses.
    """
    known = token or read_token("0.0.0.0")
    ingress = serve.ingress(lambda: create_app(load(), token=known))  # built by each replica
    # Ray's own numbers are 5 at a time, too few to fill a batch, and a queue without end.
    queue = {
        name: DEFAULT_LIMITS.requests for name in ("max_ongoing_requests", "max_queued_requests")
    }
    return serve.deployment(**{**queue, **options})(ingress(_Replica)).bind()


class _Replica:
    """Ray wants a class; the application does everything."""
