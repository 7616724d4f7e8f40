"""Measuring the shipped models on held-out subjects: numbers, tables and contact sheets.

The *trivial cheats* are measured beside the generator: returning the reference unchanged must score
high identity and low prompt, ignoring the reference low identity. That is the conflict the method
is for.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from PIL import Image
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.nn import functional as F

from likewise.data.stickers.world import asked_for, bench_tasks, truth
from likewise.pretrain import evaluators, held_out, identity, prompt
from likewise.pretrain.conversion import to_image, to_tensor
from likewise.pretrain.sampling import draw_gallery, generate, load_pipeline
from likewise.protocols import Reward
from likewise.quiet import hide_file_bars
from likewise.records.atomic import write_atomically
from likewise.rewards.clip import ClipReward
from likewise.rewards.dino import DinoReward
from likewise.rewards.evaluators import IdentityEvaluator, PromptEvaluator
from likewise.sheets import contact_sheet, short_caption
from likewise.types import KINDS, Task

Numbers = dict[str, dict[str, float]]

BENCH_COLUMNS = (
    "identity",
    "to reference",
    "retrieval",
    "prompt",
    "sum",
    "DINO",
    "DINO-Seg",
    "CLIP",
    "PSNR",
)
BENCH_LEGEND = """\
By the held-out evaluators: identity = cosine to another drawing of the same task by the world
itself (this individual, recoloured, moved and scaled as the prompt asks); to reference = cosine to
the reference; retrieval = share of images whose nearest of 30 drawings, one of each held-out
subject as the prompt asks, is of the right subject; prompt = share that does all that the prompt
asks; sum = identity + prompt. By the rewards: DINO, DINO-Seg, CLIP. PSNR in dB, of the pixels that
show the subject, against the world's drawing; scene prompts only. perfect = the world's own
drawing; pasted reference and text only = the two trivial cheats."""


def measure(models: Path, out: Path, device: str = "cpu") -> Numbers:
    """Everything that the model cards state, by section; also written to ``out/report.json``."""
    hide_file_bars()
    out.mkdir(parents=True, exist_ok=True)
    numbers: Numbers = {
        "vae": _vae_quality(models / "nano-kontext" / "vae", out),
        "identity reward": identity.quality(models / "nano-dinov2"),
        "prompt reward": prompt.quality(models / "nano-clip"),
        "identity evaluator": evaluators.identity_quality(models / "evaluator-identity"),
        "prompt evaluator": evaluators.prompt_quality(models / "evaluator-prompt"),
    }
    numbers |= _bench(models, out, device)
    write_atomically(out / "report.json", json.dumps(numbers, indent=1) + "\n")
    return numbers


def print_report(numbers: Numbers) -> None:
    """The tables of acceptance: encoders and evaluators, then sticker bench by system."""
    console = Console(width=max(96, Console().width))  # the bench table needs as much
    for section in (
        "vae",
        "identity reward",
        "prompt reward",
        "identity evaluator",
        "prompt evaluator",
    ):
        table = Table(title=section, show_header=False, min_width=60)
        for name, value in numbers[section].items():
            table.add_row(name, f"{value:.3f}")
        console.print(table)
    bench = {name: row for name, row in numbers.items() if name.startswith("bench: ")}
    table = Table("system", *BENCH_COLUMNS, title="sticker bench")
    for name, row in bench.items():
        table.add_row(name.removeprefix("bench: "), *bench_cells(row))
    console.print(table)
    console.print(BENCH_LEGEND, highlight=False, soft_wrap=True)


def bench_cells(row: Mapping[str, float]) -> list[str]:
    """A bench row as text, in the order of BENCH_COLUMNS; a dash where nothing was measured."""
    return [f"{row[name]:.3f}" if name in row else "–" for name in BENCH_COLUMNS]


@torch.no_grad()
def _vae_quality(folder: Path, out: Path) -> dict[str, float]:
    """PSNR in dB over held-out subjects in any look (peak = full range), and an image of it."""
    vae = AutoencoderKL.from_pretrained(folder).eval()
    originals = held_out.images(held_out.in_any_look())
    images = torch.stack([to_tensor(original) for original in originals])
    decoded = torch.cat(
        [vae.decode(vae.encode(part).latent_dist.mode()).sample for part in images.split(50)]
    ).clamp(-1, 1)
    error = (decoded - images).square().flatten(1).mean(1)
    # One image per subject, spread over their looks.
    shown = range(0, len(originals), held_out.PER_SUBJECT + 1)
    rows = [[originals[i] for i in shown][:12], [to_image(decoded[i]) for i in shown][:12]]
    captions = (["original"] * 12, ["decoded"] * 12)
    contact_sheet(zip(captions, rows, strict=True)).save(out / "vae.png")
    return {"psnr (dB)": float((10 * torch.log10(4 / error)).mean())}


def _bench(models: Path, out: Path, device: str) -> Numbers:
    tasks = bench_tasks()
    pipeline = load_pipeline(models / "nano-kontext", torch.device(device))
    systems = {
        "perfect": [truth(task).image for task in tasks],
        "generator": generate(pipeline, tasks),
        "pasted reference": [task.reference for task in tasks],
        "text only": generate(pipeline, tasks, with_reference=False),
    }
    _bench_sheet(tasks, systems).save(out / "bench.png")
    draw_gallery(models / "nano-kontext", 8, 0, device).save(out / "gallery.png")
    score = _Scorer(models, tasks)
    numbers = {f"bench: {name}": score(images, tasks) for name, images in systems.items()}
    for kind, name in itertools.product(KINDS, ("perfect", "generator")):
        own = [i for i, task in enumerate(tasks) if task.kind == kind]
        images = [systems[name][i] for i in own]
        numbers[f"bench: {name}, {kind}"] = score(images, [tasks[i] for i in own])
    for name, row in numbers.items():
        if name.startswith("bench: perfect"):
            row.pop("PSNR", None)  # against itself
    return numbers


class _Scorer:
    """Both evaluators, and all rewards, over a system's images."""

    def __init__(self, models: Path, tasks: Sequence[Task]) -> None:
        self.identity = IdentityEvaluator(models / "evaluator-identity", asked_for=asked_for)
        self.prompt = PromptEvaluator(models / "evaluator-prompt")
        self.rewards: dict[str, Reward] = {
            "DINO": DinoReward(models / "nano-dinov2"),
            "DINO-Seg": DinoReward(models / "nano-dinov2", segment=True),
            "CLIP": ClipReward(models / "nano-clip"),
        }
        self._galleries: dict[tuple[tuple[str, str], ...], Tensor] = {}

    def __call__(self, images: Sequence[Image.Image], tasks: Sequence[Task]) -> dict[str, float]:
        cosine = _mean(*self.identity.score(images, tasks))
        features = F.normalize(self.identity.embed(images), dim=-1)
        references = F.normalize(self.identity.embed([task.reference for task in tasks]), dim=-1)
        shares, _ = self.prompt.score(images, tasks)
        success = float((shares == 1).float().mean())
        numbers = {
            "identity": cosine,
            "to reference": float((features * references).sum(1).mean()),
            "retrieval": self._retrieval(features, tasks),
            "prompt": success,
            "sum": cosine + success,
        }
        for name, reward in self.rewards.items():
            numbers[name] = _mean(*reward.score(images, tasks))
        in_scenes = [i for i, task in enumerate(tasks) if task.kind == "scene"]
        if in_scenes:
            numbers["PSNR"] = float(np.mean([subject_psnr(images[i], tasks[i]) for i in in_scenes]))
        return numbers

    def _retrieval(self, features: Tensor, tasks: Sequence[Task]) -> float:
        """Share of images [B, D] nearest to their own subject among 30 drawn as the task asks."""
        right = []
        for feature, task in zip(features, tasks, strict=True):
            look = {key: value for key, value in task.constraints.items() if key != "scene"}
            wanted = tuple(sorted(look.items()))
            if wanted not in self._galleries:
                album = held_out.photos("gallery", lambda _: dict(wanted), 1)  # noqa: B023
                photos = self.identity.embed(held_out.images(album))
                self._galleries[wanted] = F.normalize(photos, dim=-1)
            nearest = int((self._galleries[wanted] @ feature).argmax())
            right.append(held_out.subjects()[nearest] == task.subject)
        return sum(right) / len(right)


def subject_psnr(image: Image.Image, task: Task) -> float:
    """PSNR in dB (peak 255) against the world's drawing, over pixels that show the subject."""
    drawing = truth(task)
    inside = np.asarray(drawing.mask) >= 128
    difference = np.asarray(image, np.float64)[inside] - np.asarray(drawing.image)[inside]
    return float(10 * np.log10(255**2 / max(np.mean(difference**2), 1e-9)))


def _mean(values: Tensor, valid: Tensor) -> float:
    return float(values[valid].mean())


def _bench_sheet(
    tasks: Sequence[Task], systems: Mapping[str, Sequence[Image.Image]]
) -> Image.Image:
    """Five columns of references, what the generator drew, and what was perfect, per subject."""
    shown = [index for index in range(len(tasks)) if index % 25 in (0, 9, 14, 19, 23)]
    rows = []
    perfect, drawn = (systems[name] for name in list(systems)[:2])
    for start in range(0, len(shown), 5):
        captions: list[str] = []
        images: list[Image.Image] = []
        for index in shown[start : start + 5]:
            captions += ["reference", short_caption(tasks[index]), "perfect"]
            images += [tasks[index].reference, drawn[index], perfect[index]]
        rows.append((captions, images))
    return contact_sheet(rows)
