"""`likewise attribute`: which step decides which reward, as a table and a recipe's section."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

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
from likewise.terminal import SafeConsole, progress_bars, say, shown

if TYPE_CHECKING:  # imports torch
    from likewise.analysis.intervals import Estimate
    from likewise.api.attributing import Attribution
    from likewise.config.credit_rules import Measured
    from likewise.evaluation.attribution import Profile


def attribute(
    target: DrawsArgument,
    recipe: RecipeOption = None,
    tasks: TrainingTasksOption = 48,
    resamples: ResamplesOption = 4,
    groups: Annotated[
        int,
        typer.Option(
            min=0,
            help="Number of groups to draw besides, of the recipe's size, for likewise advise.",
        ),
    ] = 0,
    seed: NoiseSeedOption = 0,
    best: BestOption = False,
    device: DeviceOption = None,
    trust_code: TrustCodeOption = False,
    out: Annotated[
        Path | None,
        typer.Option(help="JSON file to write.", show_default="attribution.json in the run"),
    ] = None,
) -> None:
    """Measure how much of each reward's variance the noise of each step decides.

    TDW assumes that early steps decide about the prompt and late ones about identity. Here each
    trajectory is drawn again with the noise of one step exchanged and all else the same; a step's
    share is what moves then, of all that varies within a task (Sobol's total effect: shares sum to
    more than 1 where steps interact). Intervals are by a bootstrap over subjects. Training tasks
    are used, because held-out subjects are for evaluation only.
    """
    with readable_errors():
        from likewise.api.early_checks import require_target

        require_target(target)  # before torch is imported

        from likewise import api

        with progress_bars() as show:
            found = api.attribute(
                target,
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
        section = found.time_weights()
        SafeConsole().print(table(found, section))
        for (one, other), delay in found.delays.items():
            say(_in_words(one, other, delay))
        say(f"all numbers: {found.file}")
        say(f"\nas a recipe's section:\n\n{as_yaml(section)}" if section else _NO_SECTION)


def _in_words(one: str, other: str, delay: Estimate) -> str:
    if delay.mean is None:
        return f"{one} or {other} never varies: nothing decides it"
    when = "later" if delay.mean >= 0 else "earlier"
    reach = "" if delay.low is None else f" (95 % interval {delay.low:+.2f} … {delay.high:+.2f})"
    return f"{one} is decided {abs(delay.mean):.2f} steps {when} than {other}{reach}"


_NO_SECTION = "no measured time weights: each side needs a reward that varies"


def table(found: Attribution, section: Measured | None) -> Table:
    """One row per step: noise level, shares, and the prompt's weight by TDW and as measured."""
    from likewise.algorithm import timeweights
    from likewise.analysis.spoilt_counts import in_words
    from likewise.config.credit_rules import Tdw

    rule, steps = found.recipe.credit.time_weights, found.recipe.rollout.num_steps
    levels = rule if isinstance(rule, Tdw) else Tdw()
    curves = {"TDW": timeweights.tdw(steps, levels.high, levels.low, levels.final)}
    if section is not None:
        curves["measured"] = timeweights.measured(section.prompt, section.identity)
    title = f"share of variance by step, {found.tasks} tasks × {found.resamples} trajectories"
    result = Table(title=title, caption=shown(in_words(found.spoilt)) or None)
    columns = ["step", "σ", *found.scorers, *(f"w_p {name}" for name in curves)]
    for column in columns:
        result.add_column(shown(column), justify="right")
    for t in range(steps):
        shares = [_share(profile, t, t in found.steps) for profile in found.scorers.values()]
        weights = [f"{float(curve[t]):.2f}" for curve in curves.values()]
        result.add_row(str(t), f"{found.sigmas[t]:.3f}", *shares, *weights)
    return result


def _share(profile: Profile, t: int, stochastic: bool) -> str:
    if not stochastic:
        return "–"
    return f"{profile.share[t]:.2f}\n[dim]{profile.low[t]:.2f}–{profile.high[t]:.2f}[/]"


def as_yaml(section: Measured) -> str:
    """The section, one line per side, to be pasted into a recipe."""
    lines = [f"    {side}: {getattr(section, side)}" for side in ("prompt", "identity")]
    return "\n".join(["credit:", "  time_weights:", f"    kind: {section.kind}", *lines])
