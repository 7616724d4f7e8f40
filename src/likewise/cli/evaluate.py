"""`likewise evaluate`: what a run changed, as a table and a picture."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from likewise.cli.errors import readable_errors

if TYPE_CHECKING:  # imports torch
    from likewise.evaluation.before_after import Measure

EXPLAINED = {
    "judge-identity": "same subject (judge)",
    "judge-prompt": "prompt followed (judge)",
}


def evaluate(
    run_dir: Annotated[Path, typer.Argument(help="A run with a checkpoint.")],
    tasks: Annotated[int, typer.Option(min=1, max=750, help="How many of sticker bench.")] = 150,
    seed: Annotated[int, typer.Option(help="Of the initial noise.")] = 0,
    best: Annotated[
        bool, typer.Option("--best", help="The run's best checkpoint instead of its newest.")
    ] = False,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, …; default: the best.")] = None,
) -> None:
    """Compare a run with its model before training, on subjects that no training ever saw.

    Judges are networks of another architecture, and never rewards: one gives the cosine to the
    reference, one the share of pictures that do all that the prompt asks. Pictures before and after
    are drawn from the same noise; intervals are by a bootstrap over subjects.
    """
    with readable_errors():
        from likewise import api

        comparison = api.evaluate(run_dir, tasks, seed, best, device)
        console = Console()
        console.print(table(comparison.measures()))
        folder = run_dir / "evaluation"
        typer.echo(f"before and after, as pictures: {folder / 'before-after.png'}")
        typer.echo(f"all numbers, by kind of prompt: {folder / 'before-after.json'}")


def table(measures: dict[str, Measure]) -> Table:
    """One row per scorer: before, after, and the difference with its 95 % interval."""
    count = max(measure.tasks for measure in measures.values())
    result = Table(title=f"sticker bench, {count} tasks about held-out subjects")
    for column in ("measure", "before", "after", "change", "95 % interval"):
        result.add_column(column, justify="left" if column == "measure" else "right")
    for name, measure in measures.items():
        result.add_row(EXPLAINED.get(name, f"{name} reward"), *_cells(measure))
    return result


def _cells(measure: Measure) -> list[str]:
    if measure.before is None or measure.after is None:
        return ["–"] * 4
    cells = [f"{measure.before:.3f}", f"{measure.after:.3f}"]
    change = f"{measure.after - measure.before:+.3f}"
    if measure.low is None or measure.high is None:
        return [*cells, change, "–"]
    colour = "green" if measure.low > 0 else "red" if measure.high < 0 else "yellow"
    interval = f"{measure.low:+.3f} … {measure.high:+.3f}"
    return [*cells, f"[{colour}]{change}[/]", interval]
