"""`likewise compare`: train and evaluate the arms of a study side by side, and compare them."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from likewise.cli.messages import readable_errors
from likewise.cli.options import study_names


class Only(StrEnum):
    train = "train"
    evaluate = "evaluate"
    results = "results"


class Where(StrEnum):
    local = "local"
    ray = "ray"
    slurm = "slurm"


ArmOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME", help="Do units of this arm alone. May be repeated.", show_default="all"
    ),
]
SeedOption = Annotated[
    list[int] | None,
    typer.Option(help="Do units of this seed alone. May be repeated.", show_default="all"),
]


def compare(
    study: Annotated[
        str,
        typer.Argument(
            help="Study: a YAML file, or a shipped one (stickers-2, stickers-2-rivals, "
            "stickers-regimes, stickers-windows, stickers-objectives, stickers-ablation).",
            autocompletion=study_names,
        ),
    ],
    out: Annotated[
        Path | None, typer.Option(help="Folder of the study.", show_default="runs/STUDY")
    ] = None,
    only: Annotated[
        Only | None,
        typer.Option(
            help="Do units of one kind alone; results: no units, compute results anew.",
            show_default="all",
        ),
    ] = None,
    arm: ArmOption = None,
    seed: SeedOption = None,
    executor: Annotated[
        Where,
        typer.Option(help="Machines that run units: this one, those of a Ray cluster, or Slurm's."),
    ] = Where.local,
    cpus: Annotated[
        int, typer.Option(min=1, help="Number of CPU cores for each unit on Ray or Slurm.")
    ] = 1,
    gpus: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Number of GPUs for each unit on Ray or Slurm.",
            show_default="1 where there are any, unless the recipe's device is cpu",
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print units, state and time; start nothing.")
    ] = False,
) -> None:
    """Train arms × seeds with paired seeds and equal compute, evaluate all, and compare them.

    Units run as processes of their own, one per GPU or CPU core of this machine, or on a cluster
    that shares the study's folder. The same command goes on after Ctrl-C or a crash, and repeats
    nothing that is finished.

    Exit codes: 0 done, 1 a unit failed (the others were done), 2 something asked for that does not
    fit, 128 + n signal n stopped it.
    """
    with readable_errors():
        from likewise.cli import comparison
        from likewise.study.unit_jobs import Resources

        where = comparison.Choice(executor.value, Resources(cpus, gpus))
        wanted = comparison.Wanted(None if only is None else only.value, arm or (), seed or ())
        comparison.compare(study, out, wanted, where, dry_run)
