"""Drawing with a generator directory through the stock pipeline; sheets to look at."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from diffusers import FluxKontextPipeline
from PIL import Image

from likewise.data.stickers.world import bench_tasks
from likewise.policies.flux.tokens import pack
from likewise.pretrain import nano
from likewise.quiet import hide_file_bars
from likewise.seeding import derive_seed
from likewise.sheets import contact_sheet, short_caption
from likewise.types import Task

SAMPLING_STEPS = 10
BATCH = 50
# Indices into a subject's 25 bench prompts: scenes, a colour, a layout, combinations.
SHOWN = (0, 1, 2, 8, 13, 17, 19, 22)


def load_pipeline(folder: Path, device: torch.device) -> FluxKontextPipeline:
    """A generator directory, quiet and on its device."""
    hide_file_bars()
    pipeline = FluxKontextPipeline.from_pretrained(folder).to(device)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@torch.inference_mode()
def generate(
    pipeline: FluxKontextPipeline,
    tasks: Sequence[Task],
    with_reference: bool = True,
    steps: int = SAMPLING_STEPS,
    seed: int = 0,
) -> list[Image.Image]:
    """One 64×64 image per task. The noise follows from task id and seed, not from the batch."""
    images: list[Image.Image] = []
    for start in range(0, len(tasks), BATCH):
        batch = tasks[start : start + BATCH]
        images += pipeline(
            image=[task.reference for task in batch] if with_reference else None,
            prompt=[task.prompt for task in batch],
            height=64,
            width=64,
            max_area=64 * 64,  # Kontext would scale any size to about a megapixel
            num_inference_steps=steps,
            latents=torch.stack([_noise(task.id, seed) for task in batch]),
            max_sequence_length=nano.TEXT_LENGTH,
            _auto_resize=False,
        ).images
    return images


def _noise(task_id: str, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(derive_seed("initial noise", task_id, seed))
    latent = torch.randn(1, nano.LATENT_CHANNELS, 16, 16, generator=generator)
    return pack(latent)[0]


def progress_sheet(folder: Path, device: torch.device) -> Image.Image:
    """What a generator draws of every held-out subject, one prompt each, below the references."""
    tasks = bench_tasks()
    per_subject = len(tasks) // len({task.subject for task in tasks})
    # Walk through subjects and prompts at once.
    chosen = [tasks[i * per_subject + (i * 7) % per_subject] for i in range(30)]
    drawn = generate(load_pipeline(folder, device), chosen)
    rows: list[tuple[list[str], list[Image.Image]]] = []
    for start in range(0, len(chosen), 10):
        part = slice(start, start + 10)
        rows.append((["reference"] * 10, [task.reference for task in chosen[part]]))
        rows.append(([short_caption(task) for task in chosen[part]], drawn[part]))
    return contact_sheet(rows)


def draw_gallery(folder: Path, subjects: int, seed: int, device: str) -> Image.Image:
    """Held-out subjects: one row each, its reference and then SHOWN of its bench prompts."""
    by_subject: dict[str, list[Task]] = {}
    for task in bench_tasks():
        by_subject.setdefault(task.subject, []).append(task)
    stride = max(1, len(by_subject) // subjects)
    chosen = list(by_subject.values())[::stride][:subjects]
    tasks = [subject_tasks[i] for subject_tasks in chosen for i in SHOWN]
    drawn = generate(load_pipeline(folder, torch.device(device)), tasks, seed=seed)
    rows = []
    for index, subject_tasks in enumerate(chosen):
        part = slice(index * len(SHOWN), (index + 1) * len(SHOWN))
        captions = ["reference", *(short_caption(task) for task in tasks[part])]
        rows.append((captions, [subject_tasks[0].reference, *drawn[part]]))
    return contact_sheet(rows)
