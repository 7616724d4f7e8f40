"""`likewise recipes`: what ships with the package, and what a recipe says in full."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from likewise.cli.messages import readable_errors
from likewise.cli.options import recipe_names
from likewise.printable import printable
from likewise.terminal import SafeConsole

if TYPE_CHECKING:
    from likewise.config import Recipe


def recipes(
    name: Annotated[
        str | None,
        typer.Argument(
            help="Shipped recipe or YAML file to print in full.",
            show_default="list the shipped ones",
            autocompletion=recipe_names,
        ),
    ] = None,
) -> None:
    """List the shipped recipes; with NAME, print that recipe in full, as YAML."""
    from likewise.config import load_recipe, shipped_recipes

    with readable_errors():
        if name is not None:
            print_recipe(load_recipe(name))
            return
        table = Table(box=None, pad_edge=False)
        table.add_column("recipe", style="bold", no_wrap=True)
        table.add_column("what it is", overflow="fold")
        for each, description in shipped_recipes().items():
            table.add_row(each, description)
        SafeConsole(highlight=False).print(table)


def print_recipe(recipe: Recipe) -> None:
    """Coloured on a terminal; elsewhere the very bytes of a recipe file."""
    from rich.syntax import Syntax

    from likewise.config import to_yaml

    console, text = SafeConsole(), to_yaml(recipe)
    if console.is_terminal:
        console.print(Syntax(text, "yaml", background_color="default"))
    else:
        typer.echo(printable(text), nl=False)
