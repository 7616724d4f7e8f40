"""A trained adapter as a file for other programs: ``likewise.export``."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor

from likewise.api.early_checks import SUFFIX
from likewise.api.generation import bare_task, find_adapter
from likewise.builders.datasets import fit_reference
from likewise.builders.policies import FORMATS, Facts, build_policy, export_adapter
from likewise.config.adapters import Full
from likewise.config.problems import nearest
from likewise.config.recipe import Recipe
from likewise.devices import find_device
from likewise.trainer.state import ADAPTER, AVERAGE


@dataclass(frozen=True)
class Exported:
    """What was written, and how it read back.

    Attributes:
        file: The file; of full weights, the folder.
        reader: What read it back.
        weights, velocity: Largest relative differences from the adapter in the run, of what it adds
            to a module's weights, and of the velocity at one fixed noise.
        tolerance: How large they may have been.
    """

    file: Path
    reader: str
    weights: float
    velocity: float
    tolerance: float


def export(
    adapter: str | Path,
    file_format: str = "diffusers",
    out: str | Path | None = None,
    recipe: Recipe | str | Path | None = None,
    best: bool = False,
    device: str | None = None,
    trust_code: bool = False,
) -> Exported:
    """Write an adapter for another program, read it back, and compare.

    Args:
        adapter: A run (its newest intact checkpoint counts, and the average in it), a checkpoint,
            an adapter's folder, or a LoRA file in diffusers' format.
        file_format: ``diffusers``, ``comfyui`` or ``kohya`` (docs/export.md).
        out: File to write, replaced if it is there; default ``<adapter>-<format>.safetensors`` in
            the current folder. Of full weights: a new or empty folder.
        recipe: Whose model the adapter is for. Default: the run's own, else ``stickers``.
        best: Take the run's best checkpoint instead of its newest.
        device: Where to compare. Default: cuda where there is one, else cpu.
        trust_code: Import what a run's recipe names as ``module:name``. What you pass as `recipe`
            is trusted.

    Raises:
        ValueError: something does not fit, or what was read back differs; nothing is left behind.
        OSError: a file or a model is not there.
    """
    if file_format not in FORMATS:
        raise ValueError(f"no format {file_format!r}; {nearest(file_format, FORMATS)}")
    recipe, folder = find_adapter(Path(adapter), recipe, best, trust_code)
    assert folder is not None  # only where no adapter is given
    full = isinstance(recipe.adapter, Full)
    name = f"{Path(adapter).resolve().name}-{file_format}{'' if full else SUFFIX}"
    path = Path(name if out is None else out)
    _check_path(path, full)
    settings = recipe.policy.model_copy(update={"compile": False})  # for the few forwards here
    recipe = recipe.model_copy(update={"policy": settings})
    policy = build_policy(recipe, find_device(device), trainable=False)
    policy.load_adapter(folder)
    condition = policy.encode([bare_task(fit_reference(_noise(), settings), "an image")])
    sigmas = policy.sigmas(recipe.rollout.num_steps, recipe.rollout.shift)
    x, sigma = policy.initial_noise([0]), float(sigmas[len(sigmas) // 2])

    def velocity() -> Tensor:
        return policy.velocity(x, sigma, condition)

    path.parent.mkdir(parents=True, exist_ok=True)
    facts = _facts(recipe, folder.resolve())
    found = export_adapter(policy, folder, file_format, path, facts, velocity)
    return Exported(path, found.reader, found.weights, found.velocity, found.tolerance)


def _check_path(out: Path, full: bool) -> None:
    """Raise ValueError where nothing can be written: before the model is loaded."""
    if full and out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ValueError(f"{out} is there already: full weights need a new or empty folder")
    if not full and out.is_dir():
        raise ValueError(f"{out} is a folder: name a file in it, as {out / f'lora{SUFFIX}'}")
    if not full and out.suffix != SUFFIX:
        raise ValueError(f"{out} does not end in {SUFFIX}, and other programs go by that")


def _facts(recipe: Recipe, folder: Path) -> Facts:
    policy = recipe.policy
    local = os.path.isdir(policy.model)
    return Facts(
        recipe=recipe.name,
        policy=policy.kind,
        model=Path(policy.model).resolve().name if local else policy.model,
        checkpoint=folder.parent.name if folder.name in (ADAPTER, AVERAGE) else folder.name,
        height=policy.height,
        width=policy.width,
    )


def _noise() -> Image.Image:
    """A reference image, always the same."""
    pixels = np.random.default_rng(0).integers(0, 256, (256, 256, 3), dtype=np.uint8)
    return Image.fromarray(pixels)
