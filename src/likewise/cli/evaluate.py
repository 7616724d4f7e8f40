"""`likewise evaluate`: how good pictures are, as a table and a folder of numbers and pictures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import Progress, TaskID
from rich.table import Table

from likewise.cli.errors import readable_errors
from likewise.cli.options import DeviceOption, TrustCodeOption
from likewise.terminal import SafeConsole, say, shown

if TYPE_CHECKING:  # imports torch
    from likewise.analysis.intervals import Estimate
    from likewise.evaluation.summary import Summary

EXPLAINED = {
    "judge/identity": "same subject (judge)",
    "judge/prompt": "prompt followed (judge)",
}
MARK = "*"  # on systems that were trained on subjects of the benchmark
FIRST = ("reward/", "judge/")  # rows at the top; metrics follow below a line


def evaluate(
    target: Annotated[
        str,
        typer.Argument(
            help="A run; a model (shipped, a pipeline's folder, or on the Hub); a folder of "
            "pictures with manifest.jsonl; or 'real', the benchmark's own photos."
        ),
    ],
    benchmark: Annotated[
        str, typer.Option(help="sticker-bench, or a folder laid out like google/dreambooth.")
    ] = "sticker-bench",
    protocol: Annotated[str, typer.Option(help="single-ref, uno or dreambooth.")] = "single-ref",
    tasks: Annotated[
        int | None,
        typer.Option(min=1, help="How many; default: all, but 150 where stickers are drawn."),
    ] = None,
    images_per_prompt: Annotated[
        int | None, typer.Option(min=1, help="Default: the protocol's.")
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="Of the initial noise; default: the protocol's.")
    ] = None,
    steps: Annotated[
        int | None, typer.Option(min=1, help="Of the schedule; default: the recipe's.")
    ] = None,
    only: Annotated[str | None, typer.Option(help="Of a run: before or after alone.")] = None,
    metric: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=MODEL",
            help="Measure NAME (dino, dinov2, clip-i, clip-t, pickscore, hpsv3, vlm-prompt, …) "
            "with this encoder: shipped, a folder, or on the Hub; settings of a reward may "
            "follow, as in vlm-prompt=MODEL,base_url=URL. May be repeated; replaces the default.",
        ),
    ] = None,
    recipe: Annotated[
        str | None,
        typer.Option(help="Of a model: how it draws (default: stickers). Of pictures: rewards."),
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="Of the system that drew a folder of pictures.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Default: in the run's evaluation/, or runs/evaluation/.")
    ] = None,
    beside: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FOLDER",
            help="Of a finished evaluation, to be shown in one table with this one; may be "
            "repeated. Refused where protocol, benchmark or encoders differ.",
        ),
    ] = None,
    best: Annotated[
        bool,
        typer.Option(
            "--best",
            help="The run's best checkpoint, on tasks that did not choose it; default: its newest.",
        ),
    ] = False,
    device: DeviceOption = None,
    trust_code: TrustCodeOption = False,
    processes: Annotated[int, typer.Option(min=1, help="How many share the batches.")] = 1,
) -> None:
    """Draw a benchmark's tasks and score the pictures; of a run, before and after training.

    On sticker bench the subjects are ones that no training ever saw. Judges are networks of another
    architecture, and never rewards: one gives the cosine to the reference, one the share of
    pictures that do all that the prompt asks. Pictures before and after are drawn from the same
    noise; intervals are by a bootstrap over subjects. A command that was killed goes on where it
    stopped. More: docs/evaluation.md.
    """
    with readable_errors():
        encoders = None if not metric else dict(_pair(word) for word in metric)

        from likewise import api
        from likewise.api.jobs import BEFORE_AFTER
        from likewise.evaluation.summary import SUMMARY, read_summary

        others = {str(folder): read_summary(folder) for folder in beside or ()}
        with Progress(console=SafeConsole(stderr=True), transient=True) as progress:
            found = api.evaluate(
                target,
                benchmark,
                protocol,
                tasks=tasks,
                images_per_prompt=images_per_prompt,
                seed=seed,
                steps=steps,
                only=only,
                metrics=encoders,
                recipe=recipe,
                name=name,
                out=out,
                best=best,
                device=device,
                processes=processes,
                trust_code=trust_code,
                progress=_shown(progress),
            )
        SafeConsole().print(table(found.summary))
        if others:
            SafeConsole().print(joint_table({**others, str(found.folder): found.summary}))
        sheet = found.folder / BEFORE_AFTER
        if sheet.exists():
            say(f"before and after, as pictures: {sheet}")
        say(f"all numbers: {found.folder / SUMMARY}, by picture in */scores.parquet")


def _shown(progress: Progress) -> Callable[[str, int, int], None]:
    """A bar for each thing that is done."""
    bars: dict[str, TaskID] = {}

    def show(what: str, done: int, total: int) -> None:
        if what not in bars:
            bars[what] = progress.add_task(shown(what))
        progress.update(bars[what], completed=done, total=total)

    return show


def _pair(word: str) -> tuple[str, str]:
    """``dino=facebook/dino-vits16``

    Raises:
        ValueError: it is not of that form.
    """
    metric, equals, model = word.partition("=")
    if not (metric and equals and model):
        raise ValueError(f"--metric {word}: write NAME=MODEL, as dino=facebook/dino-vits16")
    return metric, model


def table(summary: Summary) -> Table:
    """Rewards and judges, where there are any, then metrics; what nobody knows is left out."""
    from likewise.evaluation.summary import UNKNOWN, table_rows

    header, *rows = table_rows(summary)
    result = _headed(summary, [_marked(summary, column) for column in header])
    result.caption = _notes({"": summary})
    for first in (True, False):
        for metric, *cells in rows:
            if metric.startswith(FIRST) == first and set(cells) != {UNKNOWN}:
                if metric in summary.change:
                    place = header.index("change") - 1
                    cells[place] = f"[{_colour(summary.change[metric])}]{cells[place]}[/]"
                result.add_row(shown(_explained(metric)), *cells)
        result.add_section()
    return result


def joint_table(summaries: Mapping[str, Summary]) -> Table:
    """Several evaluations, a column per system; folders are numbered, for they can be long.

    Raises:
        ValueError: they must not share a table (the message says why).
    """
    from likewise.evaluation.summary import side_by_side

    (metric, *systems), *rows = side_by_side(summaries)
    places = {folder: str(place) for place, folder in enumerate(summaries, 1)}
    short = [
        f"{places[folder]}/{_marked(summaries[folder], system)}"
        for folder, _, system in (s.rpartition("/") for s in systems)
    ]
    result = _headed(next(iter(summaries.values())), [metric, *short])
    lines = [f"{place}: {shown(folder)}" for folder, place in places.items()]
    seen = _notes({f"{places[folder]}/": one for folder, one in summaries.items()})
    result.caption = "\n".join([*lines, seen] if seen else lines)
    for metric, *cells in rows:
        result.add_row(shown(_explained(metric)), *cells)
    return result


def _marked(summary: Summary, system: str) -> str:
    """A system's name, with a star if it was trained on subjects of the benchmark."""
    return system + MARK if system in summary.trained_on else system


def _notes(summaries: Mapping[str, Summary]) -> str | None:
    """What the stars mean, and which images have no scores: a line per system.

    Keys stand in front of systems' names.
    """
    from likewise.analysis.spoilt import in_words

    lines = []
    for place, summary in summaries.items():
        seen, spoilt = summary.trained_on.items(), summary.spoilt.items()
        lines += [f"{MARK} {place}{system}: {said}" for system, said in seen]
        lines += [f"{place}{system}: {in_words(counts)}" for system, counts in spoilt]
    return "\n".join(map(shown, lines)) or None


def _headed(summary: Summary, header: Sequence[str]) -> Table:
    settings = summary.settings
    title = f"{settings.benchmark}, {settings.tasks} tasks, protocol {settings.protocol}"
    result = Table(title=shown(title))
    for column in header:
        result.add_column(shown(column), justify="left" if column == header[0] else "right")
    return result


def _explained(metric: str) -> str:
    kind, _, name = metric.partition("/")
    if metric in EXPLAINED or kind not in ("reward", "judge"):
        return EXPLAINED.get(metric, metric)
    return f"{name} ({kind})" if kind == "judge" else f"{name} reward"


def _colour(change: Estimate) -> str:
    if change.low is None or change.high is None:
        return "default"
    return "green" if change.low > 0 else "red" if change.high < 0 else "yellow"
