"""The `likewise` command. Heavy libraries load inside commands, so that --help is instant.

One file per command; `errors` says how commands fail.
"""

from __future__ import annotations

import logging
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

# Read when libraries are imported, and inherited by the processes that a run starts.
_ENVIRONMENT = {
    "OMP_WAIT_POLICY": "PASSIVE",  # spinning threads are 10–50 times slower beside a busy process
    "TRANSFORMERS_VERBOSITY": "error",  # it would miss torchvision, which is not used
    "DIFFUSERS_VERBOSITY": "error",
}

# torchao is imported by diffusers wherever it is installed, and warns of kernels for other machines
# than this one. At import, since processes that a run starts import this file, and no more.
for _name in ("torchao", "torch.utils._pytree"):
    logging.getLogger(_name).setLevel(logging.ERROR)


@app.callback()
def main() -> None:
    """Subject-driven image generators, fine-tuned on rewards that conflict."""
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
