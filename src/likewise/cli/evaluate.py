"""`likewise evaluate`: how good images are, as a table and a folder of numbers and images."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from likewise.cli.messages import readable_errors
from likewise.cli.options import DeviceOption, TrustCodeOption, recipe_names
from likewise.terminal import SafeConsole, say, shown

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from likewise.analysis.intervals import Estimate
    from likewise.evaluation.summary import Summary

EXPLAINED = {
    "evaluator/identity": "same subject (evaluator)",
    "evaluator/prompt": "prompt followed (evaluator)",
}
MARK = "*"  # on systems that were trained on subjects of the benchmark
FIRST = ("reward/", "evaluator/")  # rows at the top; metrics follow below a line


class Protocol(StrEnum):
    """Those of `likewise.evaluation.protocols`, which takes longer to import."""

    single_ref = "single-ref"
    uno = "uno"
    dreambooth = "dreambooth"


class Only(StrEnum):
    before = "before"
    after = "after"


def evaluate(
    target: Annotated[
        str,
        typer.Argument(
            help="Run; model (shipped, a pipeline's folder, or on the Hub); folder of images with "
            "manifest.jsonl; or 'real', the benchmark's own photos."
        ),
    ],
    benchmark: Annotated[
        str,
        typer.Option(help="Benchmark: sticker-bench, or a folder laid out like google/dreambooth."),
    ] = "sticker-bench",
    protocol: Annotated[
        Protocol,
        typer.Option(help="Protocol: photos that images are compared with, and how to average."),
    ] = Protocol.single_ref,
    tasks: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Number of the benchmark's tasks, evenly over subjects and prompts.",
            show_default="all; 150 where stickers are drawn",
        ),
    ] = None,
    images_per_prompt: Annotated[
        int | None,
        typer.Option(min=1, help="Number of images per task.", show_default="the protocol's"),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(help="Seed of the initial noise.", show_default="the protocol's"),
    ] = None,
    steps: Annotated[
        int | None,
        typer.Option(min=1, help="Number of sampling steps.", show_default="the recipe's"),
    ] = None,
    only: Annotated[
        Only | None,
        typer.Option(help="State of a run to evaluate alone.", show_default="both"),
    ] = None,
    metric: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=MODEL",
            help="Metric (dino, dinov2, clip-i, clip-t, pickscore, hpsv3, vlm-prompt, …) and the "
            "model that measures it: shipped, a folder, or on the Hub; settings of a reward may "
            "follow, as in vlm-prompt=MODEL,base_url=URL. May be repeated.",
            show_default="the benchmark's: see docs/evaluation.md",
        ),
    ] = None,
    recipe: Annotated[
        str | None,
        typer.Option(
            help="Recipe by name or file: how a model draws, or whose rewards score a folder of "
            "images too.",
            show_default="stickers for a model, no rewards for images",
            autocompletion=recipe_names,
        ),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(
            help="Name of the system that drew a folder of images.", show_default="the folder's"
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder for numbers and images.",
            show_default="below evaluation/ in the run, else runs/evaluation/",
        ),
    ] = None,
    beside: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FOLDER",
            help="Folder of a finished evaluation to show in one table with this one; refused "
            "where protocol, benchmark or encoders differ. May be repeated.",
            show_default="none",
        ),
    ] = None,
    best: Annotated[
        bool,
        typer.Option(
            "--best",
            help="Take the run's best checkpoint instead of its newest, and tasks that did not "
            "choose it.",
        ),
    ] = False,
    device: DeviceOption = None,
    trust_code: TrustCodeOption = False,
    processes: Annotated[
        int, typer.Option(min=1, help="Number of processes that share the batches.")
    ] = 1,
) -> None:
    """Draw a benchmark's tasks and score the images; of a run, before and after training.

    On sticker bench the subjects are ones that no training ever saw. Held-out evaluators are
    networks of another architecture, and never rewards: one gives the cosine to the subject as the
    prompt asks for it, one the share of images that do all that the prompt asks. Images before and
    after are drawn from the same noise; intervals are by a bootstrap over subjects. A command that
    was killed goes on where it stopped. More: docs/evaluation.md.
    """
    with readable_errors():
        encoders = None if not metric else dict(_pair(word) for word in metric)

        from rich.progress import Progress

        from likewise import api
        from likewise.api.jobs import BEFORE_AFTER
        from likewise.config.evaluation_settings import EvaluationSettings
        from likewise.evaluation.summary import SUMMARY, read_summary

        others = {str(folder): read_summary(folder) for folder in beside or ()}
        with Progress(console=SafeConsole(stderr=True), transient=True) as progress:
            found = api.evaluate(
                target,
                EvaluationSettings(
                    benchmark=benchmark,
                    protocol=protocol.value,
                    tasks=tasks,
                    images_per_prompt=images_per_prompt,
                    seed=seed,
                    steps=steps,
                    metrics=encoders,
                ),
                only=None if only is None else only.value,
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
            say(f"before and after, as images: {sheet}")
        say(f"all numbers: {found.folder / SUMMARY}, by image in */scores.parquet")


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
    """Rewards and evaluators, where there are any, then metrics; what nobody knows is left out."""
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
    if metric in EXPLAINED or kind not in ("reward", "evaluator"):
        return EXPLAINED.get(metric, metric)
    return f"{name} ({kind})" if kind == "evaluator" else f"{name} reward"


def _colour(change: Estimate) -> str:
    if change.low is None or change.high is None:
        return "default"
    return "green" if change.low > 0 else "red" if change.high < 0 else "yellow"
