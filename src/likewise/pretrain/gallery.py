"""The first image a new user makes: held-out subjects, drawn as several prompts ask."""

from __future__ import annotations

from pathlib import Path

import torch
from PIL import Image

from likewise.data.stickers.world import bench_tasks
from likewise.pretrain.sampling import generate, load_pipeline
from likewise.sheets import contact_sheet, short_caption
from likewise.types import Task

# Indices into a subject's 25 bench prompts: scenes, a colour, a layout, combinations.
SHOWN = (0, 1, 2, 8, 13, 17, 19, 22)


def draw_gallery(folder: Path, subjects: int, seed: int, device: str) -> Image.Image:
    """One row per subject: its reference, then SHOWN of its bench prompts, captioned."""
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
