"""`likewise export`: a trained adapter as a file for other programs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from likewise.cli.errors import readable_errors
from likewise.cli.options import DeviceOption, TrustCodeOption
from likewise.terminal import say


def export(
    adapter: Annotated[
        Path, typer.Argument(metavar="RUN", help="A run, a checkpoint or an adapter.")
    ],
    file_format: Annotated[
        str, typer.Option("--format", help="diffusers, comfyui or kohya.")
    ] = "diffusers",
    out: Annotated[
        Path | None,
        typer.Option(help="File to write; default: RUN-FORMAT.safetensors in this folder."),
    ] = None,
    recipe: Annotated[
        str | None, typer.Option(help="Name or file; default: the run's own, else stickers.")
    ] = None,
    best: Annotated[
        bool, typer.Option("--best", help="The run's best checkpoint instead of its newest.")
    ] = False,
    device: DeviceOption = None,
    trust_code: TrustCodeOption = False,
) -> None:
    """Write a trained adapter for diffusers, ComfyUI or kohya's tools, and see it read back.

    The file is loaded again into the run's model and compared with the run's own adapter; only
    then is it in its place. Which program reads which file: docs/export.md.
    """
    with readable_errors():
        from likewise import api

        found = api.export(adapter, file_format, out, recipe, best, device, trust_code)
        say(
            f"{found.file}: read back by {found.reader}, its weights differ by "
            f"{found.weights:.1e} and its velocity by {found.velocity:.1e} from the run's "
            f"(at most {found.tolerance:g} is allowed)"
        )
