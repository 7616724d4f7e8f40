"""`likewise serve-reward`: a reward as a service, in an environment of its own.

Of likewise's dependencies it needs Pillow, pydantic, PyYAML and typer, and those of the extra
`serve`; torch and its friends only for likewise's own rewards.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Any

import typer

from likewise.cli.messages import USAGE, fail, readable_errors

TargetArgument = Annotated[
    str,
    typer.Argument(
        metavar="NAME|MODULE:FUNCTION",
        help="Reward of likewise, as in a recipe's kind (dino, clip, …), or any function "
        "(images, tasks) -> one number per image.",
    ),
]
WordsArgument = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[KEY=VALUE]...",
        help="Settings of NAME, as in model=FOLDER.",
        show_default="those of a recipe",
    ),
]
HostOption = Annotated[
    str,
    typer.Option(
        help="Address to listen at. Other machines can reach 0.0.0.0, which needs a token in "
        "LIKEWISE_SERVICE_TOKEN."
    ),
]
PortOption = Annotated[int, typer.Option(min=1, max=65535, help="TCP port to listen at.")]
DeviceOption = Annotated[
    str | None,
    typer.Option(
        help="Device that NAME computes on, as in cpu, cuda or cuda:1.",
        show_default="cuda where there is one, else cpu",
    ),
]
MaxBatchOption = Annotated[
    int, typer.Option(min=1, help="Number of images per call of the reward, at most.")
]
WaitOption = Annotated[
    float,
    typer.Option(
        min=0, help="Milliseconds that an image waits for others to join its batch, at most."
    ),
]
MaxRequestsOption = Annotated[
    int,
    typer.Option(min=1, help="Number of requests in progress at once; more are told to come back."),
]
MaxRequestOption = Annotated[
    float, typer.Option(min=0.001, help="Size of one request in MiB, at most.")
]
MaxConnectionsOption = Annotated[
    int,
    typer.Option(
        min=1,
        help="Number of connections open at once; a new one replaces one that shows no token.",
    ),
]
MaxImagesOption = Annotated[
    int,
    typer.Option(
        min=1,
        help="Number of images in one request, references and masks included; of tasks too.",
    ),
]
MaxPixelsOption = Annotated[
    int, typer.Option(min=1, help="Number of pixels of one image, at most.")
]


def serve_reward(
    target: TargetArgument,
    words: WordsArgument = None,
    host: HostOption = "127.0.0.1",
    port: PortOption = 8700,
    device: DeviceOption = None,
    max_batch: MaxBatchOption = 32,
    wait_ms: WaitOption = 5.0,
    max_requests: MaxRequestsOption = 64,
    max_request_mb: MaxRequestOption = 32.0,
    max_connections: MaxConnectionsOption = 256,
    max_images: MaxImagesOption = 256,
    max_pixels: MaxPixelsOption = 2048 * 2048,
) -> None:
    """Serve a reward to training runs elsewhere; their recipes name it with `kind: remote`.

    SIGTERM or Ctrl-C: requests that are in progress are answered, new ones are refused. A second
    signal ends it at once.
    More: docs/rewards.md.
    """
    with readable_errors():
        try:
            from likewise.serve.app import create_app
            from likewise.serve.limits import Limits
            from likewise.serve.running import read_token, run
        except ImportError as error:
            fail(f"{error}: pip install 'likewise[serve]', or the packages it names", USAGE)
        token = read_token(host)
        limits = Limits(
            request_bytes=int(max_request_mb * 2**20),
            images=max_images,
            pixels=max_pixels,
            requests=max_requests,
            connections=max_connections,
        )
        app = create_app(
            _reward(target, words or [], device),
            token=token,
            limits=limits,
            max_batch=max_batch,
            max_wait=wait_ms / 1000,
        )
        run(app, host, port, limits)


def _reward(target: str, words: Sequence[str], device: str | None) -> Callable[..., Any]:
    if ":" in target:
        from likewise.imports import load_target

        if words or device:
            fail("settings and --device are for rewards of likewise, not for a function", USAGE)
        try:
            return load_target(target)
        except (ImportError, AttributeError, TypeError) as error:
            fail(str(error), USAGE)
    from likewise.config.layers import apply, parse_override

    settings = apply([parse_override(word) for word in words], {})
    try:
        from likewise.builders.rewards import build_reward
    except ImportError as error:
        fail(f"rewards of likewise need all that likewise depends on: {error}", USAGE)
    return build_reward(target, settings, device).score
