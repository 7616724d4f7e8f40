"""What rates pictures in an evaluation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import torch

from likewise import assets
from likewise.build.benchmarks import STICKER_BENCH
from likewise.build.models import model_path
from likewise.config.problems import nearest
from likewise.evaluation.measures import Measures
from likewise.protocols import Encoder, Reward
from likewise.quiet import be_quiet
from likewise.rewards.clip import ClipI, ClipT
from likewise.rewards.common.likeness import Transform
from likewise.rewards.dino import DinoReward
from likewise.rewards.judges import IdentityJudge, PromptJudge
from likewise.rewards.mobilenet import MobileNetJudge


def build_judges(device: torch.device) -> Mapping[str, Reward]:
    """The sticker world's judges, never rewards: identity (cosine), and prompt success (0 or 1)."""
    be_quiet()
    return {
        "identity": IdentityJudge(assets.path("judge-identity"), device),
        "prompt": PromptJudge(assets.path("judge-prompt"), device, strict=True),
    }


def default_encoders(benchmark: str | Path) -> dict[str, str]:
    """Metric → encoder, where nobody names any: those of published tables, for photos.

    Stickers have rewards and judges of their own for the prompt, and to the nano CLIP's picture
    embeddings subjects look much alike.
    """
    if str(benchmark) == STICKER_BENCH:
        return {"dinov2": "nano-dinov2"}
    clip = "openai/clip-vit-base-patch32"
    dino = {"dino": "facebook/dino-vits16", "dinov2": "facebook/dinov2-base"}
    return {**dino, "clip-i": clip, "clip-t": clip}


def build_metrics(encoders: Mapping[str, str], device: torch.device) -> Measures:
    """Metrics of an evaluation, in the order given.

    Args:
        encoders: Metric (`LIKENESS`, `PROMPT`) → shipped model, directory or Hub name.

    Raises:
        ValueError: a metric is unknown, or its encoder cannot be loaded (the message names both).
    """
    be_quiet()
    likeness, prompt = {}, {}
    for name, encoder in encoders.items():
        if name not in {**LIKENESS, **PROMPT}:
            raise ValueError(f"no metric {name!r}; {nearest(name, [*LIKENESS, *PROMPT])}")
        try:
            if name in LIKENESS:
                likeness[name] = LIKENESS[name](encoder, device)
            else:
                prompt[name] = PROMPT[name](encoder, device)
        except (OSError, ValueError) as error:
            raise ValueError(f"metric {name}: cannot load {encoder!r}: {error}") from error
    return Measures(likeness, prompt)


def _dino(encoder: str, device: torch.device) -> DinoReward:
    """With the benchmark's transform, but for shipped models, which learnt from whole stickers."""
    transform: Transform = "own" if encoder in assets.names() else "dreambench"
    return DinoReward(model_path(encoder), device=device, transform=transform)


# Metrics by name, from encoder and device: likeness to photos, and to the prompt.
LIKENESS: dict[str, Callable[[str, torch.device], Encoder]] = {
    "dino": _dino,
    "dinov2": _dino,
    "clip-i": lambda encoder, device: ClipI(model_path(encoder), device),
    "mobilenet": MobileNetJudge,
}


PROMPT: dict[str, Callable[[str, torch.device], Reward]] = {
    "clip-t": lambda encoder, device: ClipT(model_path(encoder), device),
}
