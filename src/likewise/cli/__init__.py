"""The `likewise` command. One file per command; `messages` says how commands fail.

Heavy modules are imported inside commands, so that help, completion and wrong options are instant:
torch, diffusers and transformers, but NumPy, Pillow and recipes too.
"""

from __future__ import annotations

import os
from typing import Annotated

import typer

from likewise import __version__
from likewise.cli import (
    advise,
    attribute,
    compare,
    data_check,
    doctor,
    evaluate,
    export,
    generate,
    pretrain,
    recipes,
    report,
    serve,
    study_people,
    train,
    web_app,
)
from likewise.quiet import hush_imports

# Groups in the help.
RUN, RESULTS, DATA = "Run", "Results", "Data"
SERVE, MODELS = "Serve", "Models"

app = typer.Typer(no_args_is_help=True, rich_markup_mode="markdown")
app.command(rich_help_panel=RUN)(train.train)
app.command(rich_help_panel=RUN)(compare.compare)
app.command(rich_help_panel=RUN)(recipes.recipes)
app.command(rich_help_panel=RUN)(doctor.doctor)
app.command(rich_help_panel=RESULTS)(generate.generate)
app.command(rich_help_panel=RESULTS)(evaluate.evaluate)
app.command(rich_help_panel=RESULTS)(attribute.attribute)
app.command(rich_help_panel=RESULTS)(advise.advise)
app.command(rich_help_panel=RESULTS)(report.report)
app.add_typer(study_people.app, name="study-people", rich_help_panel=RESULTS)
app.add_typer(data_check.app, name="data", rich_help_panel=DATA)
app.command(rich_help_panel=SERVE)(serve.serve_reward)
app.command("app", rich_help_panel=SERVE)(web_app.serve_app)
app.command(rich_help_panel=MODELS)(export.export)
app.add_typer(pretrain.app, name="pretrain", rich_help_panel=MODELS)


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"likewise {__version__}")
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    """Subject-driven image generators, fine-tuned on rewards that conflict."""
    # Spinning threads are 10–50 times slower beside a busy process. Read when torch is imported,
    # and inherited by the processes that a run starts.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    hush_imports()
