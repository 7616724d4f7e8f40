"""Options that several commands share, and what the shell can complete."""

from __future__ import annotations

from typing import Annotated

import typer


def recipe_names(incomplete: str) -> list[str]:
    """Shipped recipes whose names begin so."""
    from likewise.config.loading import RECIPES

    return [name for name in RECIPES.names() if name.startswith(incomplete)]


def study_names(incomplete: str) -> list[str]:
    """Shipped studies whose names begin so."""
    from likewise.config.study import STUDIES

    return [name for name in STUDIES.names() if name.startswith(incomplete)]


DeviceOption = Annotated[
    str | None,
    typer.Option(
        help="Device that computes, as in cpu, cuda or cuda:1.",
        show_default="cuda where there is one, else cpu",
    ),
]
TrustCodeOption = Annotated[
    bool,
    typer.Option(
        "--trust-code",
        help="Import the code that the run's recipe names as module:name, and use its keys.",
    ),
]
BestOption = Annotated[
    bool, typer.Option("--best", help="Take the run's best checkpoint instead of its newest.")
]
RecipeOption = Annotated[
    str | None,
    typer.Option(
        help="Recipe to draw by: a name or a file.",
        show_default="the run's own, else stickers",
        autocompletion=recipe_names,
    ),
]
# Of commands that draw training tasks to measure something on a run or a model.
DrawsArgument = Annotated[
    str,
    typer.Argument(
        help="Run with a checkpoint, or a model: shipped, a pipeline's folder, or on the Hub."
    ),
]
TrainingTasksOption = Annotated[int, typer.Option(min=2, help="Number of training tasks.")]
ResamplesOption = Annotated[
    int,
    typer.Option(min=2, help="Number of trajectories per task; each is redrawn for every step."),
]
NoiseSeedOption = Annotated[int, typer.Option(help="Seed of all noise.")]
