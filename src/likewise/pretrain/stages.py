"""What `likewise pretrain` can train, in order, and where each part reads and writes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from likewise.pretrain import evaluators, generator, identity, prompt, vae
from likewise.pretrain.loop import FitRun, FitSettings
from likewise.quiet import hide_file_bars
from likewise.records.locks import exclusive


@dataclass(frozen=True)
class Folders:
    """`work`: states and logs, one folder per stage; `models`: where finished models go."""

    work: Path
    models: Path

    def vae(self) -> Path:
        """The autoencoder alone: freshly trained, else the one inside the shipped generator."""
        candidates = (self.work / "vae" / "model", self.models / "nano-kontext" / "vae")
        for folder in candidates:
            if (folder / "config.json").exists():
                return folder
        raise FileNotFoundError(
            f"the generator needs an autoencoder, in {candidates[0]} or {candidates[1]}; "
            "train one first with `likewise pretrain vae`"
        )


@dataclass(frozen=True)
class Stage:
    """One training. `model` is the shipped directory that it makes (the VAE is part of another)."""

    settings: FitSettings
    model: str | None
    train: Callable[[FitRun, Folders, Path, FitSettings], bool]
    about: str


def _alone(
    train: Callable[[FitRun, Path, FitSettings], bool],
) -> Callable[[FitRun, Folders, Path, FitSettings], bool]:
    """A training that needs no other stage's result."""
    return lambda run, _, target, settings: train(run, target, settings)


def _generator(run: FitRun, folders: Folders, target: Path, settings: FitSettings) -> bool:
    assert isinstance(settings, generator.GeneratorSettings)
    return generator.train(run, folders.vae(), target, settings)


STAGES: dict[str, Stage] = {
    "vae": Stage(
        vae.SETTINGS,
        None,
        _alone(vae.train),
        "random images of the world",
    ),
    "generator": Stage(
        generator.SETTINGS,
        "nano-kontext",
        _generator,
        "reference/prompt/target triples by flow matching, text encoders included",
    ),
    "identity": Stage(
        identity.SETTINGS,
        "nano-dinov2",
        _alone(identity.train),
        "views and crops of whole images, some pairs of one subject in two scenes; no labels",
    ),
    "prompt": Stage(
        prompt.SETTINGS,
        "nano-clip",
        _alone(prompt.train),
        "image-caption pairs with hard negatives (one attribute changed)",
    ),
    "evaluator-identity": Stage(
        evaluators.IDENTITY_SETTINGS,
        "evaluator-identity",
        _alone(evaluators.train_identity),
        "labelled individuals in any scene, pose, size and light; recoloured ones as rivals",
    ),
    "evaluator-prompt": Stage(
        evaluators.PROMPT_SETTINGS,
        "evaluator-prompt",
        _alone(evaluators.train_prompt),
        "images with their scene, colour, size and place as labels",
    ),
}

# What a person may ask for → stages, in order.
PARTS: dict[str, tuple[str, ...]] = {
    "vae": ("vae",),
    "generator": ("generator",),
    "identity": ("identity",),
    "prompt": ("prompt",),
    "evaluators": ("evaluator-identity", "evaluator-prompt"),
    "all": tuple(STAGES),
}


def run_stage(name: str, run: FitRun, folders: Folders, settings: FitSettings) -> bool:
    """Train one stage; False if its time ran out before it finished.

    Raises:
        ValueError: another process trains in its folder.
    """

    def busy(process: str) -> ValueError:
        return ValueError(f"{run.folder} is in use: process {process} trains there")

    hide_file_bars()
    stage = STAGES[name]
    target = folders.models / stage.model if stage.model else folders.work / name / "model"
    run.folder.mkdir(parents=True, exist_ok=True)
    with exclusive(run.folder / ".lock", busy):
        return stage.train(run, folders, target, settings)
