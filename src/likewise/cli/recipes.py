"""`likewise recipes`: what ships with the package, and what a recipe says in full."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.syntax import Syntax
from rich.table import Table

from likewise.cli.errors import readable_errors
from likewise.config import Recipe, load_recipe, shipped_recipes, to_yaml
from likewise.printable import printable
from likewise.terminal import SafeConsole


def recipes(
    name: Annotated[
        str | None, typer.Argument(help="A shipped recipe or a YAML file; default: list them.")
    ] = None,
) -> None:
    """List the shipped recipes; with NAME, print that recipe in full, as YAML."""
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
    console, text = SafeConsole(), to_yaml(recipe)
    if console.is_terminal:
        console.print(Syntax(text, "yaml", background_color="default"))
    else:
        typer.echo(printable(text), nl=False)
