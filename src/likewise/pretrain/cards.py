"""Model cards: each shipped directory gets a README.md with data, command, time and quality."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from pathlib import Path

import torch

from likewise.cores import usable_cores
from likewise.pretrain.report import BENCH_COLUMNS, BENCH_LEGEND, Numbers, bench_cells
from likewise.pretrain.samples import training_subjects
from likewise.pretrain.stages import STAGES

_TITLES = {
    "nano-kontext": "a nano FLUX.1-Kontext for the sticker world",
    "nano-dinov2": "the identity reward of the sticker world, a nano DINOv2",
    "nano-clip": "the prompt reward of the sticker world, a nano CLIP",
    "evaluator-identity": "the identity evaluator of the sticker world (evaluation only)",
    "evaluator-prompt": "the prompt evaluator of the sticker world (evaluation only)",
}
_USE = {
    "nano-kontext": (
        "`diffusers.FluxKontextPipeline.from_pretrained(path)` loads it. Call it with "
        "`height=64, width=64, max_area=64*64, _auto_resize=False, max_sequence_length=16, "
        "num_inference_steps=10`: it was trained on 64×64 images and on exactly 16 T5 tokens "
        "(FLUX pads without a mask). Guidance is not distilled; 8 % of the prompts were empty in "
        "training, so that true CFG can be used."
    ),
    "nano-dinov2": "`transformers.Dinov2Model` and `AutoImageProcessor`; compare CLS tokens.",
    "nano-clip": "`transformers.CLIPModel` and `AutoProcessor`.",
    "evaluator-identity": (
        "`transformers.AutoModel` and `AutoImageProcessor`; compare pooled outputs."
    ),
    "evaluator-prompt": (
        "`transformers.AutoModelForImageClassification`; logits are one softmax per attribute "
        "(labels read `attribute:value`)."
    ),
}
_SECTIONS = {
    "nano-dinov2": "identity reward",
    "nano-clip": "prompt reward",
    "evaluator-identity": "identity evaluator",
    "evaluator-prompt": "prompt evaluator",
}
_COMMANDS = {
    "vae": "likewise pretrain vae",
    "evaluator-identity": "likewise pretrain evaluators",
    "evaluator-prompt": "likewise pretrain evaluators",
}


def write_cards(models: Path, work: Path, numbers: Numbers) -> None:
    """Write ``README.md`` into every model directory, from logs in `work` and measured numbers."""
    for model in _TITLES:
        stages = [name for name, stage in STAGES.items() if stage.model == model]
        if model == "nano-kontext":
            stages.insert(0, "vae")
        (models / model / "README.md").write_text(
            _card(model, stages, work, numbers), encoding="utf-8"
        )


def _card(model: str, stages: list[str], work: Path, numbers: Numbers) -> str:
    lines = [f"# {model}: {_TITLES[model]}", "", _USE[model], "", "## Training", ""]
    lines += ["| part | data | command | steps × batch | time |", "|---|---|---|---|---|"]
    for name in stages:
        stage = STAGES[name]
        command = _COMMANDS.get(name, f"likewise pretrain {name}")
        steps, time = _effort(work / name / "metrics.jsonl", stage.settings.steps)
        batch = stage.settings.batch_size
        lines.append(f"| {name} | {stage.about} | `{command}` | {steps:,} × {batch} | {time} |")
    lines += [
        "",
        f"Hardware: {_hardware()}. Only the {len(training_subjects())} training stickers were "
        "used, no held-out one. How this copy came about: `docs/nano-models.md`.",
        "",
        "## Measured on held-out subjects",
        "",
        "`likewise pretrain report`; the prompts are those of sticker bench.",
        "",
    ]
    if model == "nano-kontext":
        lines += _bench_table(numbers)
    else:
        lines += _pairs(numbers[_SECTIONS[model]])
    return "\n".join([*lines, "", "Apache-2.0. The art behind it: see THIRD_PARTY.md.", ""])


def _pairs(row: Mapping[str, float]) -> list[str]:
    table = [f"| {name} | {value:.3f} |" for name, value in row.items()]
    return ["| measure | value |", "|---|---|", *table]


def _bench_table(numbers: Numbers) -> list[str]:
    bench = {name: row for name, row in numbers.items() if name.startswith("bench: ")}
    lines = [*_pairs(numbers["vae"]), "", "| system | " + " | ".join(BENCH_COLUMNS) + " |"]
    lines.append("|---" * (len(BENCH_COLUMNS) + 1) + "|")
    for name, row in bench.items():
        cells = " | ".join(bench_cells(row))
        lines.append(f"| {name.removeprefix('bench: ')} | {cells} |")
    return [*lines, "", BENCH_LEGEND]


def _effort(log: Path, planned: int) -> tuple[int, str]:
    """Steps and minutes of training, from what the loop logged; pauses are left out."""
    if not log.exists():
        return planned, "not logged"
    rows = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    seconds = sum(row["samples"] / row["samples_per_second"] for row in rows)
    return rows[-1]["step"], f"{seconds / 60:.0f} min"


def _hardware() -> str:
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    cores = len(usable_cores())
    return f"{cores} CPU cores ({platform.machine()}, {torch.backends.cpu.get_cpu_capability()})"
