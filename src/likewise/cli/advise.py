"""`likewise advise`: what to try on a model or a run, before training on it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from likewise.cli.messages import readable_errors
from likewise.cli.options import (
    BestOption,
    DeviceOption,
    DrawsArgument,
    NoiseSeedOption,
    RecipeOption,
    ResamplesOption,
    TrainingTasksOption,
    TrustCodeOption,
)
from likewise.terminal import progress_bars, say

AttributionOption = Annotated[
    Path | None,
    typer.Option(
        help="File of an earlier likewise advise, or of likewise attribute --groups N.",
        show_default="measure now",
    ),
]
GroupsOption = Annotated[
    int, typer.Option(min=2, help="Number of groups of the recipe's size, for correlations.")
]
OutOption = Annotated[
    Path | None,
    typer.Option(
        help="JSON file for what is measured.", show_default="attribution.json in the run"
    ),
]
JsonOption = Annotated[
    bool, typer.Option("--json", help="Print all numbers as JSON instead of words.")
]


def advise(
    target: DrawsArgument,
    attribution: AttributionOption = None,
    recipe: RecipeOption = None,
    tasks: TrainingTasksOption = 48,
    resamples: ResamplesOption = 4,
    groups: GroupsOption = 24,
    seed: NoiseSeedOption = 0,
    best: BestOption = False,
    device: DeviceOption = None,
    trust_code: TrustCodeOption = False,
    out: OutOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say in words whether two rewards conflict, when each is decided, and what to try.

    Measures which steps decide which reward (as likewise attribute) and how rewards go together
    inside groups; from that it predicts how many images TDW saves against naive weights and
    against the constant weight of the same mean, and from which gamma SARS is more than a rescaled
    sum. With 95 % intervals over subjects; the model behind it is in docs/method.md, section 9.
    """
    with readable_errors():
        from likewise.api.early_checks import require_target

        require_target(target)  # before torch is imported

        from likewise import api
        from likewise.analysis.advice_words import in_words

        with progress_bars() as show:
            found = api.advise(
                target,
                attribution=attribution,
                recipe=recipe,
                tasks=tasks,
                resamples=resamples,
                groups=groups,
                seed=seed,
                best=best,
                device=device,
                out=out,
                progress=lambda done: show("tasks", done, tasks),
                trust_code=trust_code,
            )
        if as_json:
            typer.echo(json.dumps(found.record(), indent=1, allow_nan=False))
            return
        say(in_words(found.advice, found.recipe.rollout.num_steps))
        say(f"all numbers: --json; measured: {found.source}")
