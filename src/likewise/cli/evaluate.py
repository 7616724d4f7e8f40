"""`likewise evaluate`: score images; print a table, write a folder of numbers and images."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from likewise.cli.messages import readable_errors
from likewise.cli.options import DeviceOption, TrustCodeOption, recipe_names
from likewise.terminal import SafeConsole, progress_bars, say

if TYPE_CHECKING:
    from likewise.api import Evaluation
    from likewise.evaluation.summary import Summary


class Protocol(StrEnum):
    """Names of protocols, as `evaluation.benchmark_protocols` has them, which imports slowly."""

    single_ref = "single-ref"
    uno = "uno"
    dreambooth = "dreambooth"


class Only(StrEnum):
    before = "before"
    after = "after"


TargetArgument = Annotated[
    str,
    typer.Argument(
        help="Run; model (shipped, a pipeline's folder, or on the Hub); folder of images with "
        "manifest.jsonl; or 'real', the benchmark's own photos."
    ),
]
BenchmarkOption = Annotated[
    str,
    typer.Option(
        help="Benchmark: sticker-bench; sticker-tuning, to choose settings by; or a folder laid "
        "out like google/dreambooth."
    ),
]
ProtocolOption = Annotated[
    Protocol,
    typer.Option(help="Protocol: photos that images are compared with, and how to average."),
]
TasksOption = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Number of the benchmark's tasks, evenly over subjects and prompts.",
        show_default="all; 150 where stickers are drawn",
    ),
]
ImagesPerPromptOption = Annotated[
    int | None,
    typer.Option(min=1, help="Number of images per task.", show_default="the protocol's"),
]
SeedOption = Annotated[
    int | None,
    typer.Option(help="Seed of the initial noise.", show_default="the protocol's"),
]
StepsOption = Annotated[
    int | None,
    typer.Option(min=1, help="Number of sampling steps.", show_default="the recipe's"),
]
OnlyOption = Annotated[
    Only | None,
    typer.Option(help="State of a run to evaluate alone.", show_default="both"),
]
MetricOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME=MODEL",
        help="Metric (dino, dinov2, clip-i, clip-t, pickscore, hpsv3, vlm-prompt, …) and the "
        "model that measures it: shipped, a folder, or on the Hub; settings of a reward may "
        "follow, as in vlm-prompt=MODEL,base_url=URL. May be repeated.",
        show_default="the benchmark's: see docs/evaluation.md",
    ),
]
RecipeOption = Annotated[
    str | None,
    typer.Option(
        help="Recipe by name or file: how a model draws, or whose rewards score a folder of "
        "images too.",
        show_default="stickers for a model, no rewards for images",
        autocompletion=recipe_names,
    ),
]
NameOption = Annotated[
    str | None,
    typer.Option(
        help="Name of the system that drew a folder of images.", show_default="the folder's"
    ),
]
OutOption = Annotated[
    Path | None,
    typer.Option(
        help="Folder for numbers and images.",
        show_default="below evaluation/ in the run, else runs/evaluation/",
    ),
]
BesideOption = Annotated[
    list[Path] | None,
    typer.Option(
        metavar="FOLDER",
        help="Folder of a finished evaluation to show in one table with this one; refused "
        "where protocol, benchmark or encoders differ. May be repeated.",
        show_default="none",
    ),
]
BestOption = Annotated[
    bool,
    typer.Option(
        "--best",
        help="Take the run's best checkpoint instead of its newest, and tasks that did not "
        "choose it.",
    ),
]
ProcessesOption = Annotated[
    int, typer.Option(min=1, help="Number of processes that share the batches.")
]


def evaluate(
    target: TargetArgument,
    benchmark: BenchmarkOption = "sticker-bench",
    protocol: ProtocolOption = Protocol.single_ref,
    tasks: TasksOption = None,
    images_per_prompt: ImagesPerPromptOption = None,
    seed: SeedOption = None,
    steps: StepsOption = None,
    only: OnlyOption = None,
    metric: MetricOption = None,
    recipe: RecipeOption = None,
    name: NameOption = None,
    out: OutOption = None,
    beside: BesideOption = None,
    best: BestOption = False,
    device: DeviceOption = None,
    trust_code: TrustCodeOption = False,
    processes: ProcessesOption = 1,
) -> None:
    """Draw a benchmark's tasks and score the images; of a run, before and after training.

    On sticker bench the subjects are ones that no training ever saw. Held-out evaluators are
    networks of another architecture, and never rewards: one gives the cosine to the subject as the
    prompt asks for it, one the share of images that do all that the prompt asks. Images before and
    after are drawn from the same noise; intervals are by a bootstrap over subjects. A command that
    was killed goes on where it stopped. More: docs/evaluation.md.
    """
    with readable_errors():
        metrics = None if not metric else dict(_pair(word) for word in metric)

        from likewise.api.early_checks import require_target

        require_target(target)  # before torch is imported

        from likewise import api
        from likewise.config.evaluation_settings import EvaluationSettings
        from likewise.evaluation.summary import read_summary

        settings = EvaluationSettings(
            benchmark=benchmark,
            protocol=protocol.value,
            tasks=tasks,
            images_per_prompt=images_per_prompt,
            seed=seed,
            steps=steps,
            metrics=metrics,
        )
        others = {str(folder): read_summary(folder) for folder in beside or ()}
        with progress_bars() as progress:
            found = api.evaluate(
                target,
                settings,
                only=None if only is None else only.value,
                recipe=recipe,
                name=name,
                out=out,
                best=best,
                device=device,
                processes=processes,
                trust_code=trust_code,
                progress=progress,
            )
        _print(found, others)


def _pair(word: str) -> tuple[str, str]:
    """``dino=facebook/dino-vits16`` → metric and model.

    Raises:
        ValueError: `word` is not of the form NAME=MODEL.
    """
    metric, equals, model = word.partition("=")
    if not (metric and equals and model):
        raise ValueError(f"--metric {word}: write NAME=MODEL, as dino=facebook/dino-vits16")
    return metric, model


def _print(found: Evaluation, others: Mapping[str, Summary]) -> None:
    """The table of this evaluation, one with all that are compared, and where the files are."""
    from likewise.api.jobs import BEFORE_AFTER
    from likewise.cli.evaluation_tables import joint_table, table
    from likewise.evaluation.summary import SUMMARY

    SafeConsole().print(table(found.summary))
    if others:
        SafeConsole().print(joint_table({**others, str(found.folder): found.summary}))
    sheet = found.folder / BEFORE_AFTER
    if sheet.exists():
        say(f"before and after, as images: {sheet}")
    say(f"all numbers: {found.folder / SUMMARY}, by image in */scores.parquet")
