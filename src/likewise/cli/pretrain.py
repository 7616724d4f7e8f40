"""`likewise pretrain`: rebuild and measure the shipped nano models."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from likewise.terminal import say

if TYPE_CHECKING:
    from likewise.pretrain.loop import FitSettings

app = typer.Typer(no_args_is_help=True, help="Rebuild and measure the shipped nano models.")

WorkOption = Annotated[Path, typer.Option(help="Folder for states, logs and contact sheets.")]
ModelsOption = Annotated[
    Path | None,
    typer.Option(
        help="Folder that models are read from and written to.", show_default="in the package"
    ),
]
DeviceOption = Annotated[str, typer.Option(help="Device that computes, as in cpu or cuda.")]


def _train_command(part: str, help_text: str) -> None:
    @app.command(part, help=help_text)
    def command(
        work: WorkOption = Path("runs/pretrain"),
        models: ModelsOption = None,
        device: DeviceOption = "cpu",
        workers: Annotated[
            int, typer.Option(min=0, help="Number of processes that draw samples.")
        ] = 1,
        minutes: Annotated[
            float | None,
            typer.Option(
                help="Minutes after which to stop; the same command goes on later.",
                show_default="until finished",
            ),
        ] = None,
        steps: Annotated[
            int | None,
            typer.Option(
                min=1, help="Number of training steps.", show_default="the model's usual one"
            ),
        ] = None,
        warm_start: Annotated[
            bool,
            typer.Option(
                "--warm-start",
                help="Begin with the finished weights in --models, not with random ones.",
            ),
        ] = False,
        rate: Annotated[
            float,
            typer.Option(min=0.0, help="Factor on the usual learning rates, to go on gently."),
        ] = 1.0,
        noisy_from: Annotated[
            float | None,
            typer.Option(
                min=0.0,
                max=1.0,
                help="Share of the generator's training after which captions are noisy: 0 for all "
                "of it, 1 for none.",
                show_default="6/7",
            ),
        ] = None,
        compile: Annotated[
            bool,
            typer.Option(
                "--compile",
                help="Compile the generator's transformer: 1.6 times faster on CPUs after a minute "
                "or two; needs a C++ compiler there.",
            ),
        ] = False,
    ) -> None:
        folders = work, models or _package_models()
        changes = SettingsChanges(steps, rate, noisy_from)
        _train(part, *folders, device, workers, minutes, warm_start, compile, changes)


for _part, _help in {
    "vae": "Train the autoencoder of the generator.",
    "generator": "Train the generator: transformer and text encoders; needs the autoencoder.",
    "identity": "Train the identity reward, a nano DINOv2.",
    "prompt": "Train the prompt reward, a nano CLIP.",
    "evaluators": "Train both held-out evaluators, which only evaluation uses.",
    "all": "Train everything above, in order.",
}.items():
    _train_command(_part, _help)


class SettingsChanges(NamedTuple):
    """What a command changes of a stage's usual settings."""

    steps: int | None
    rate: float
    noisy_from: float | None

    def apply(self, settings: FitSettings) -> FitSettings:
        changes: dict[str, Any] = {"learning_rate": self.rate * settings.learning_rate}
        if settings.muon_rate is not None:
            changes["muon_rate"] = self.rate * settings.muon_rate
        if self.steps is not None:
            changes["steps"] = self.steps
        if self.noisy_from is not None and hasattr(settings, "noisy_from"):
            changes["noisy_from"] = self.noisy_from
        return dataclasses.replace(settings, **changes)


def _train(
    part: str,
    work: Path,
    models: Path,
    device: str,
    workers: int,
    minutes: float | None,
    warm_start: bool,
    compile: bool,
    changes: SettingsChanges,
) -> None:
    import torch

    from likewise.pretrain.loop import FitRun
    from likewise.pretrain.stages import PARTS, STAGES, Folders, run_stage

    os.environ.setdefault(
        "TOKENIZERS_PARALLELISM", "false"
    )  # we fork workers after their first use
    folders = Folders(work, models)
    for name in PARTS[part]:
        settings = changes.apply(STAGES[name].settings)
        start = folders.models if warm_start else None
        run = FitRun(work / name, torch.device(device), workers, minutes, start, compile)
        try:
            finished = run_stage(name, run, folders, settings)
        except (FileNotFoundError, ValueError) as error:
            raise typer.BadParameter(str(error), param_hint="--work, --models") from error
        if not finished:
            say(f"{name}: time is up; run the same command again to go on")
            raise typer.Exit(code=3)


@app.command("report")
def report(
    out: Annotated[Path, typer.Option(help="Folder for report.json and contact sheets.")] = Path(
        "runs/pretrain/report"
    ),
    models: ModelsOption = None,
    device: DeviceOption = "cpu",
    work: WorkOption = Path("runs/pretrain"),
    cards: Annotated[
        bool, typer.Option("--cards", help="Write each model's card (README.md) too.")
    ] = False,
) -> None:
    """Measure every shipped model on held-out subjects; print a table, draw contact sheets."""
    from likewise.pretrain.cards import write_cards
    from likewise.pretrain.report import measure, print_report

    folder = models or _package_models()
    numbers = measure(_existing(folder, "--models"), out, device)
    print_report(numbers)
    if cards:
        write_cards(folder, work, numbers)
    say(f"report.json and contact sheets are in {out}")


def _package_models() -> Path:
    from likewise import assets

    return Path(assets.__file__).parent


def _existing(folder: Path, option: str) -> Path:
    if not folder.is_dir():
        raise typer.BadParameter(f"{folder} is not a directory", param_hint=option)
    return folder
