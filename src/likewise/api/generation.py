"""Drawing images of one subject with a trained adapter, or without: ``likewise.generate``."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

from PIL import Image

from likewise.api.early_checks import require_adapter
from likewise.builders.datasets import fit_reference
from likewise.builders.policies import build_policy, build_sampler, long_prompts
from likewise.config.code import require_trust
from likewise.config.json_text import check_text
from likewise.config.loading import load_recipe
from likewise.config.recipe import Recipe
from likewise.devices import find_device
from likewise.images import open_image
from likewise.protocols import Policy
from likewise.records.checkpoints import CheckpointStore
from likewise.records.run_directory import RECIPE, RunDirectory
from likewise.rollout.scoring import to_pil
from likewise.rollout.spoilt import find_spoilt
from likewise.rollout.trajectories import draw_images
from likewise.seeding import derive_seed
from likewise.trainer.state import adapter_folder
from likewise.types import Task

LOG = logging.getLogger(__name__)
_INSIDE_RUN = 3  # an adapter is at RUN/checkpoints/ITERATION/adapter


def generate(
    reference: str | Path | Image.Image,
    prompt: str,
    adapter: str | Path | None = None,
    recipe: Recipe | str | Path | None = None,
    seed: int = 0,
    count: int = 1,
    best: bool = False,
    device: str | None = None,
    trust_code: bool = False,
) -> list[Image.Image]:
    """Draw the subject of `reference` as the prompt says, by ODE steps of the recipe's schedule.

    Args:
        reference: Any image; turned upright, put on white, cropped to the recipe's shape.
        adapter: A run (its newest intact checkpoint counts), a checkpoint, or an adapter: its
            folder, or a LoRA file in diffusers' format. Default: the recipe's model as it was
            before training.
        recipe: As for `train`. Default: the run's own, else ``stickers``.
        seed: Image i follows from seed and i, whatever `count` is.
        count: How many images, ≥ 1.
        best: Take the run's best checkpoint instead of its newest.
        device: Default: cuda where there is one, else cpu.
        trust_code: Import what a run's recipe names as ``module:name``. What you pass as `recipe`
            is trusted.

    Raises:
        ValueError: the prompt is empty, count < 1, or the adapter does not fit or has no
            checkpoint (the message says which).
        OSError: a file or a model is not there.
    """
    if not prompt.strip():
        raise ValueError("the prompt is empty: say what to draw, as in 'a duck in the snow'")
    check_text(prompt)
    if count < 1:
        raise ValueError(f"count must be at least 1, not {count}")
    image = reference if isinstance(reference, Image.Image) else open_image(Path(reference))
    recipe, folder = find_adapter(
        None if adapter is None else Path(adapter), recipe, best, trust_code
    )
    task = bare_task(fit_reference(image, recipe.policy), prompt)
    # Without an adapter of its own it gets a fresh one, which changes nothing but the roundings
    # of 16-bit models: so images before and after training compare.
    policy = build_policy(recipe, find_device(device), trainable=folder is None)
    if folder is not None:
        policy.load_adapter(folder)
    for message in long_prompts(policy, [prompt]):
        LOG.warning(message)
    return _draw(policy, recipe, [replace(task, id=str(i)) for i in range(count)], seed)


def _draw(policy: Policy, recipe: Recipe, tasks: Sequence[Task], seed: int) -> list[Image.Image]:
    sampler = build_sampler(recipe, policy)

    def seed_of(task: Task) -> int:
        return derive_seed("generate", seed, task.id)

    drawn = draw_images(policy, sampler, tasks, recipe.rollout.micro_batch, seed_of)
    for why, count in Counter(filter(None, find_spoilt(drawn))).items():
        LOG.warning("%d of %d images are %s", count, len(drawn), why.replace("_", " "))
    return to_pil(drawn)


def find_adapter(
    adapter: Path | None,
    recipe: Recipe | str | Path | None,
    best: bool = False,
    trust_code: bool = False,
    sections: Collection[str] = ("policy",),
) -> tuple[Recipe, Path | None]:
    """The recipe to draw by, and its adapter, a folder or a file; None for the untrained model.

    Args:
        trust_code: Whether a run's recipe may name code to import.
        sections: Of the recipe, what will be built.

    Raises:
        ValueError: there is no such folder or file, the run has no checkpoint, or its recipe names
            code that is not trusted.
    """
    require_adapter(adapter, best)
    if adapter is None:
        return _loaded(recipe), None
    if recipe is None:
        around = [adapter, *adapter.resolve().parents][: _INSIDE_RUN + 1]
        run = next((folder for folder in around if (folder / RECIPE).is_file()), None)
        recipe = None if run is None else RunDirectory.open(run).recipe
        if recipe is not None and not trust_code:
            require_trust(recipe, run, sections)
    if (adapter / RECIPE).is_file():
        adapter = _checkpoint(adapter, best)
    inner = adapter_folder(adapter)
    return _loaded(recipe), inner if inner.is_dir() else adapter  # a file is an adapter


def _loaded(recipe: Recipe | str | Path | None) -> Recipe:
    return recipe if isinstance(recipe, Recipe) else load_recipe(recipe or "stickers")


def _checkpoint(run_dir: Path, best: bool) -> Path:
    store = CheckpointStore(RunDirectory.open(run_dir).checkpoints, 1)
    checkpoint = store.best() if best else store.newest()
    if checkpoint is None:
        kind = "that has a score (evaluations give one)" if best else "yet"
        unusable = "".join(f"\n{one}" for one in store.damaged())
        raise ValueError(f"the run {run_dir} has no intact checkpoint {kind}{unusable}")
    return checkpoint.folder


def bare_task(reference: Image.Image, prompt: str) -> Task:
    """A task that is drawn and never scored: reference and prompt are enough."""
    return Task(
        id="generate",
        prompt=prompt,
        class_name="",
        subject="",
        category="",
        kind="scene",
        complexity=1,
        reference=reference,
    )
