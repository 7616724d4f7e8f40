"""The `likewise` command. Heavy libraries load inside commands, so that --help is instant.

One file per command; `errors` says how commands fail.
"""

from __future__ import annotations

import os

import typer

from likewise.cli import (
    attribute,
    compare,
    data,
    doctor,
    evaluate,
    export,
    generate,
    pretrain,
    recipes,
    report,
    serve,
    train,
)
from likewise.quiet import hush_imports

app = typer.Typer(no_args_is_help=True, add_completion=False, rich_markup_mode="rich")
app.command()(train.train)
app.command()(recipes.recipes)
app.command()(evaluate.evaluate)
app.command()(compare.compare)
app.command()(attribute.attribute)
app.command()(report.report)
app.command()(generate.generate)
app.command()(export.export)
app.command()(serve.serve_reward)
app.command()(doctor.doctor)
app.add_typer(data.app, name="data")
app.add_typer(pretrain.app, name="pretrain")


@app.callback()
def main() -> None:
    """Subject-driven image generators, fine-tuned on rewards that conflict."""
    # Spinning threads are 10–50 times slower beside a busy process. Read when torch is imported,
    # and inherited by the processes that a run starts.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    hush_imports()
