"""Options that several commands share."""

from __future__ import annotations

from typing import Annotated

import typer

DeviceOption = Annotated[str | None, typer.Option(help="cpu, cuda, …; default: the best.")]
TrustCodeOption = Annotated[
    bool,
    typer.Option(
        "--trust-code", help="Import what the run's recipe names as module:name, and use its keys."
    ),
]
