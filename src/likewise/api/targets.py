"""Whose images `evaluate` measures: a run's, a model's, another system's, or real photos."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

from diffusers import DiffusionPipeline
from huggingface_hub import hf_hub_download

from likewise.api.early_checks import REAL, require_target
from likewise.api.generation import find_adapter
from likewise.builders.model_names import model_path
from likewise.config.recipe import Recipe
from likewise.evaluation.manifest import MANIFEST
from likewise.evaluation.summary import AFTER, BEFORE
from likewise.records.run_directory import RECIPE

CODED = ("policy", "rewards", "evaluators")  # sections of a recipe that may name code
MODEL = "model"  # the system of an untrained model
EVALUATIONS = "runs/evaluation"


@dataclass(frozen=True)
class Target:
    """What is measured.

    Attributes:
        out: Start of the paths of its evaluations, before benchmark and protocol.
        systems: Names of the systems whose images are measured; each has its own folder.
        source: Where the images come from, for settings.json.
        recipe: To draw by, and whose rewards score; None for images that need neither.
        adapter: Folder of the adapter that `after` draws with.
        images: Folder with another system's manifest.
        run: Directory of the run that it is.
    """

    out: str
    systems: tuple[str, ...]
    source: str
    recipe: Recipe | None = None
    adapter: Path | None = None
    images: Path | None = None
    run: Path | None = None

    @property
    def draws(self) -> bool:
        """Whether images are made here."""
        return self.images is None and self.systems != (REAL,)

    @property
    def num_steps(self) -> int | None:
        """Number of sampling steps; None where nothing is drawn."""
        return self.recipe.rollout.num_steps if self.recipe and self.draws else None

    def with_steps(self, num_steps: int) -> Target:
        """The same, drawn in so many steps."""
        assert self.recipe is not None
        rollout = self.recipe.rollout.model_copy(update={"num_steps": num_steps})
        return replace(self, recipe=self.recipe.model_copy(update={"rollout": rollout}))


def find_target(
    target: str | Path,
    recipe: Recipe | str | Path | None = None,
    name: str | None = None,
    best: bool = False,
    trust_code: bool = False,
) -> Target:
    """What a target is: ``real``, a run, a folder of images, or a model.

    Args:
        recipe: For a model: how it draws, default ``stickers``. For images: whose rewards score
            them too, default none.
        name: Of the system in a folder of images; default: the folder's.
        best: A run's best checkpoint instead of its newest.
        trust_code: Whether a run's recipe may name code to import.

    Raises:
        ValueError: the target does not exist, neither here nor on the Hub, an option is not for its
            kind, or a run's recipe names code that is not trusted.
    """
    folder = Path(target)
    is_run, is_images = (folder / RECIPE).is_file(), (folder / MANIFEST).is_file()
    if best and not is_run:
        raise ValueError(f"the best checkpoint is that of a run, and {target} is none")
    if name is not None and not is_images:
        raise ValueError(f"a name is for a folder of images, and {target} is none")
    if recipe is not None and (is_run or target == REAL):
        raise ValueError(f"a recipe is for models and images: {target} needs none")
    if target == REAL:
        return Target(f"{EVALUATIONS}/{REAL}-", (REAL,), "photos")
    if is_run:
        return _run(folder, best, trust_code)
    if is_images:
        return _images(folder, recipe, name)
    return _model(str(target), recipe)


def find_drawing(
    target: str | Path,
    recipe: Recipe | str | Path | None = None,
    best: bool = False,
    trust_code: bool = False,
) -> tuple[Target, Recipe]:
    """A target that images can be drawn with, and how: see :func:`find_target`.

    Raises:
        ValueError: as there, or the target is a folder of images or ``real``.
    """
    found = find_target(target, recipe, best=best, trust_code=trust_code)
    if found.recipe is None or not found.draws:
        raise ValueError(f"{target} draws nothing: give a run or a model")
    return found, found.recipe


def _run(folder: Path, best: bool, trust_code: bool) -> Target:
    recipe, adapter = find_adapter(folder, None, best, trust_code, CODED)
    assert adapter is not None  # a run without checkpoints is an error
    out = f"{folder / 'evaluation'}/"
    return Target(out, (BEFORE, AFTER), adapter.parent.name, recipe, adapter, run=folder)


def _images(folder: Path, recipe: Recipe | str | Path | None, name: str | None) -> Target:
    name = name or folder.resolve().name
    if name in ("", ".", "..", REAL) or set(name) & {"/", "\\"}:
        raise ValueError(f"{name!r} cannot name a folder: choose another name")
    rewards = None if recipe is None else find_adapter(None, recipe)[0]
    return Target(f"{EVALUATIONS}/{name}-", (name,), str(folder), rewards, images=folder)


def _model(name: str, recipe: Recipe | str | Path | None) -> Target:
    require_target(name)
    path = model_path(name)
    if os.path.isdir(path) and not (Path(path) / DiffusionPipeline.config_name).is_file():
        raise ValueError(
            f"{name} is not a run directory (it has no {RECIPE}), nor images ({MANIFEST}), "
            f"nor a pipeline ({DiffusionPipeline.config_name})"
        )
    if not os.path.isdir(path):
        _look_up(name)
    settings, _ = find_adapter(None, recipe)
    policy = settings.policy.model_copy(update={"model": name})
    own = settings.model_copy(update={"policy": policy})
    out = f"{EVALUATIONS}/{Path(name).name}-"
    return Target(out, (MODEL,), f"{name} by {settings.name}", own)


def _look_up(name: str) -> None:
    """See that the Hub has a pipeline of that name, before anything is written."""
    try:
        hf_hub_download(name, DiffusionPipeline.config_name)
    except (OSError, ValueError) as error:
        raise ValueError(f"there is no folder {name}, and the Hub gives none: {error}") from error
