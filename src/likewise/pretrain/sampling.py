"""Drawing with a generator directory through the stock pipeline, and laying pictures out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import diffusers
import torch
import transformers
from diffusers import FluxKontextPipeline
from PIL import Image, ImageDraw

from likewise.data.stickers import bench_tasks
from likewise.policies.flux_tokens import pack
from likewise.pretrain import nano
from likewise.seeding import derive_seed
from likewise.types import Task

SAMPLING_STEPS = 10
BATCH = 50


def load_pipeline(folder: Path, device: torch.device) -> FluxKontextPipeline:
    """A generator directory, quiet and on its device."""
    be_quiet()
    pipeline = FluxKontextPipeline.from_pretrained(folder).to(device)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def be_quiet() -> None:
    """No progress bars for loading a few megabytes."""
    diffusers.utils.logging.disable_progress_bar()
    transformers.utils.logging.disable_progress_bar()


@torch.inference_mode()
def generate(
    pipeline: FluxKontextPipeline,
    tasks: Sequence[Task],
    with_reference: bool = True,
    steps: int = SAMPLING_STEPS,
    seed: int = 0,
) -> list[Image.Image]:
    """One 64×64 picture per task. The noise follows from task id and seed, not from the batch."""
    pictures: list[Image.Image] = []
    for start in range(0, len(tasks), BATCH):
        batch = tasks[start : start + BATCH]
        pictures += pipeline(
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
    return pictures


def _noise(task_id: str, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(derive_seed("initial noise", task_id, seed))
    latent = torch.randn(1, nano.LATENT_CHANNELS, 16, 16, generator=generator)
    return pack(latent)[0]


def short_caption(task: Task) -> str:
    """What the prompt constrains, in few words ("tiny red left")."""
    return " ".join(task.constraints.values())


def contact_sheet(
    rows: Iterable[tuple[Sequence[str], Sequence[Image.Image]]], scale: int = 2, margin: int = 4
) -> Image.Image:
    """Rows of (captions, pictures), each caption above its picture (cut to its width), on white."""
    rows = list(rows)
    cell = 64 * scale
    columns = max(len(pictures) for _, pictures in rows)
    height = cell + 14 + margin
    letters = cell // 6  # as many as fit above a picture
    sheet = Image.new("RGB", (columns * (cell + margin), len(rows) * height), "white")
    pen = ImageDraw.Draw(sheet)
    for row, (captions, pictures) in enumerate(rows):
        for column, (caption, picture) in enumerate(zip(captions, pictures, strict=True)):
            corner = (column * (cell + margin), row * height)
            text = caption if len(caption) <= letters else caption[: letters - 1] + "…"
            pen.text((corner[0] + 1, corner[1] + 1), text, fill="black")
            resized = picture.resize((cell, cell), Image.Resampling.LANCZOS)
            sheet.paste(resized, (corner[0], corner[1] + 14))
    return sheet


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
