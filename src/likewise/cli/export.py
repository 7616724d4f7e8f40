"""`likewise export`: a trained adapter as a file for other programs."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from likewise.cli.messages import readable_errors
from likewise.cli.options import BestOption, DeviceOption, RecipeOption, TrustCodeOption
from likewise.terminal import say


class Format(StrEnum):
    """Formats, as in `likewise.api.adapter_export`, which takes longer to import."""

    diffusers = "diffusers"
    comfyui = "comfyui"
    kohya = "kohya"


def export(
    adapter: Annotated[
        Path, typer.Argument(metavar="RUN", help="Run, checkpoint or adapter to export.")
    ],
    file_format: Annotated[
        Format, typer.Option("--format", help="Program whose layout the file has.")
    ] = Format.diffusers,
    out: Annotated[
        Path | None,
        typer.Option(
            help="File to write; of a fully trained model, a folder.",
            show_default="RUN-FORMAT.safetensors in this folder",
        ),
    ] = None,
    recipe: RecipeOption = None,
    best: BestOption = False,
    device: DeviceOption = None,
    trust_code: TrustCodeOption = False,
) -> None:
    """Write a trained adapter for diffusers, ComfyUI or kohya's tools, and check it.

    The file is loaded again into the run's model and compared with the run's own adapter; only
    then is it moved to its path. Which program reads which file: docs/export.md.
    """
    with readable_errors():
        from likewise.api.early_checks import require_adapter

        require_adapter(adapter, best)  # before torch is imported

        from likewise import api

        found = api.export(adapter, file_format.value, out, recipe, best, device, trust_code)
        say(
            f"{found.file}: read back by {found.reader}, its weights differ by "
            f"{found.weights:.1e} and its velocity by {found.velocity:.1e} from the run's "
            f"(at most {found.tolerance:g} is allowed)"
        )
