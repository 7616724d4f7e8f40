"""`likewise data check`: are the rows and images of a dataset fit for training?"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from likewise.cli.messages import FAILED, readable_errors
from likewise.terminal import SafeConsole, shown

app = typer.Typer(no_args_is_help=True)


@app.callback()
def data() -> None:
    """Check custom datasets before training."""


class Kind(StrEnum):
    """Kinds of datasets, as in `likewise.builders.datasets`, which takes longer to import."""

    folder = "folder"
    jsonl = "jsonl"
    syncd = "syncd"
    subjects200k = "subjects200k"
    dreambench = "dreambench"


@app.command()
def check(
    path: Annotated[
        Path, typer.Argument(help="Manifest or folder of the dataset: a recipe's data.path.")
    ],
    kind: Annotated[
        Kind | None,
        typer.Option(
            help="Layout of the dataset: a recipe's data.kind.", show_default="by the files there"
        ),
    ] = None,
    decode: Annotated[
        bool,
        typer.Option(
            "--decode",
            help="Decode all images, instead of reading their headers and ends; and warn of those "
            "that are the same, or nearly, for different subjects.",
        ),
    ] = False,
    examples: Annotated[
        int, typer.Option(min=1, help="Number of bad rows to name for each kind of problem.")
    ] = 3,
) -> None:
    """Check every row and image of a dataset. Exit code 1 if any is bad."""
    with readable_errors():
        from likewise.api.data_checks import check_data

        console = SafeConsole(soft_wrap=True, highlight=False)
        with console.status(f"checking {shown(str(path))}…"):
            checked = check_data(path, None if kind is None else kind.value, decode, examples)
    report = checked.report
    for what, count in report.problems.counts.most_common():
        console.print(f"[bold red]{count:>7,}[/] {shown(what)}")
        for problem in report.problems.first[what]:
            console.print(f"        {shown(problem.where)}: {shown(problem.detail)}")
    if report.near_duplicates:
        console.print(
            f"[bold yellow]{len(report.near_duplicates):>7,}[/] times the same image, or nearly, "
            "of two subjects: one may be held out while the other is trained on"
        )
        for one, other in report.near_duplicates[:examples]:
            console.print(f"        {shown(str(one))} and {shown(str(other))}")
    for note in report.notes:
        console.print(shown(note))
    looked = "decoded" if decode else "headers read"
    console.print(
        f"{shown(str(path))} ({checked.kind}): {report.rows:,} rows, {report.bad:,} bad "
        f"(images: {looked})"
    )
    if report.bad:
        raise typer.Exit(FAILED)
