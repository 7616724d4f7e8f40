"""`likewise report`: a study, or runs, as one HTML file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from likewise.cli.messages import readable_errors
from likewise.terminal import say

if TYPE_CHECKING:
    from collections.abc import Mapping

    from PIL import Image


def report(
    paths: Annotated[
        list[Path],
        typer.Argument(metavar="RUN|STUDY...", help="Folders of one or more runs, or of a study."),
    ],
    out: Annotated[Path, typer.Option(help="HTML file to write.")] = Path("report.html"),
) -> None:
    """Write one HTML file with numbers, plots and images, which opens offline.

    A study is a folder that `likewise compare` writes, a run one that `likewise train` writes. What
    is not there yet is left out, and the report says so.
    """
    with readable_errors():
        if out.is_dir():
            raise ValueError(
                f"--out {out} is a folder: name a file in it, as {out / out.name}.html"
            )

        from likewise.report import write_report

        size = write_report(paths, out, _references)
        say(f"{out}: {size / 1e6:.1f} MB; open it in a browser")


def _references(benchmark: str) -> Mapping[str, Image.Image]:
    """Task → reference of a benchmark; none for one that is not here any more."""
    from likewise.builders.benchmarks import load_benchmark

    try:
        return {task.id: task.reference for task in load_benchmark(benchmark)}
    except (ValueError, OSError) as error:
        say(f"no reference images: {error}", err=True)
        return {}
