"""`likewise app`: runs, images and human studies in a browser."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from likewise.cli.messages import USAGE, fail, readable_errors
from likewise.terminal import say

if TYPE_CHECKING:
    from collections.abc import Mapping

    from PIL import Image


def serve_app(
    folders: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[FOLDER]...",
            help="Folders with runs, evaluations and human studies; nothing else is served.",
            show_default="runs",
        ),
    ] = None,
    port: Annotated[int, typer.Option(min=1, max=65535, help="TCP port to listen at.")] = 7860,
    host: Annotated[
        str,
        typer.Option(help="Address to listen at. Other machines can reach 0.0.0.0, with a token."),
    ] = "127.0.0.1",
    token: Annotated[
        str | None,
        typer.Option(
            help="Secret that visitors other than raters need: 16 letters and digits or more.",
            show_default="LIKEWISE_APP_TOKEN of the environment; on this machine none",
        ),
    ] = None,
) -> None:
    """Show runs, images and human studies in a browser. More: docs/app.md."""
    with readable_errors():
        try:
            from likewise.api.painting import Painter
            from likewise.app.server import create_app, find_token, listen, run
        except ImportError as error:
            fail(f"{error}: pip install 'likewise[app]', or the packages it names", USAGE)
        named = folders or [Path("runs")]
        for folder in folders or []:
            if not folder.is_dir():
                wrong = "is not a folder" if folder.exists() else "is not there"
                fail(f"{folder} {wrong}: name folders of runs and studies", USAGE)
        found = find_token(host, token)
        listening = listen(host, port)
        shown = f"[{host}]" if ":" in host else host
        say(f"http://{shown}:{port}/{'' if found is None else f'?token={found}'}")
        run(create_app(named, found, _references, Painter()), listening)


def _references(benchmark: str) -> Mapping[str, Image.Image]:
    """Task → reference of the benchmark that ships; another may lie outside the named folders."""
    from likewise.builders.benchmarks import load_benchmark
    from likewise.config.evaluation_settings import STICKER_BENCH

    if benchmark != STICKER_BENCH:
        return {}
    return {task.id: task.reference for task in load_benchmark(benchmark)}
