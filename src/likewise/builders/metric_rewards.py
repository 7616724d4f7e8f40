"""What rates images in an evaluation."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from likewise import assets
from likewise.builders.model_names import model_path
from likewise.builders.rewards import build_reward, check_reward
from likewise.config.evaluation_settings import STICKERS
from likewise.config.layers import apply, parse_override
from likewise.config.problems import nearest
from likewise.evaluation.measures import Measures
from likewise.protocols import Encoder, Reward
from likewise.rewards.clip import ClipI, ClipT
from likewise.rewards.common.likeness import Transform
from likewise.rewards.dino import DinoReward
from likewise.rewards.mobilenet import MobileNetEvaluator


def default_encoders(benchmark: str | Path) -> dict[str, str]:
    """Metric → encoder, where none are named: those of published tables, for photos.

    Stickers have rewards and evaluators of their own for the prompt, and to the nano CLIP's image
    embeddings subjects look much alike.
    """
    if str(benchmark) in STICKERS:
        return {"dinov2": "nano-dinov2"}
    clip = "openai/clip-vit-base-patch32"
    dino = {"dino": "facebook/dino-vits16", "dinov2": "facebook/dinov2-base"}
    return {**dino, "clip-i": clip, "clip-t": clip}


def build_metric_rewards(encoders: Mapping[str, str], device: torch.device) -> dict[str, Reward]:
    """Metrics that are rewards elsewhere (`SCORED`), by name: they take the image as a whole.

    Args:
        encoders: Of all metrics: metric → ``MODEL`` or ``MODEL,setting=value,…``, with the settings
            of the reward's section in a recipe.

    Raises:
        ValueError: a model or setting is not there, or does not fit (the message names the metric).
    """
    found = {}
    for name, words in encoders.items():
        if name in SCORED:
            with _naming(name, words):
                kind, settings = _reward_settings(name, words)
                found[name] = build_reward(kind, settings, str(device))
    return found


def check_metrics(encoders: Mapping[str, str]) -> None:
    """See that all metrics can be built, before anything is written; those too large are not.

    Raises:
        ValueError: as `build_metrics` and `build_metric_rewards`.
    """
    cpu = torch.device("cpu")
    build_metrics(encoders, cpu)
    build_metric_rewards({name: one for name, one in encoders.items() if name not in LARGE}, cpu)
    for name in LARGE & encoders.keys():
        with _naming(name, encoders[name]):
            check_reward(*_reward_settings(name, encoders[name]))


def _reward_settings(metric: str, words: str) -> tuple[str, dict[str, Any]]:
    kind, fixed = SCORED[metric]
    model, *others = words.split(",")
    return kind, {"model": model, **apply([parse_override(word) for word in others], {}), **fixed}


@contextmanager
def _naming(metric: str, encoder: str) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError) as error:
        raise ValueError(f"metric {metric}: cannot load {encoder!r}: {error}") from error


def build_metrics(encoders: Mapping[str, str], device: torch.device) -> Measures:
    """Metrics of an evaluation that are measured from embeddings, in the order given.

    Args:
        encoders: Metric (`LIKENESS`, `PROMPT`) → shipped model, directory or Hub name; those of
            `SCORED` are left to `build_metric_rewards`.

    Raises:
        ValueError: a metric is unknown, or its encoder cannot be loaded (the message names both).
    """
    likeness, prompt = {}, {}
    for name, encoder in encoders.items():
        known = [*LIKENESS, *PROMPT, *SCORED]
        if name not in known:
            raise ValueError(f"no metric {name!r}; {nearest(name, known)}")
        with _naming(name, encoder):
            if name in LIKENESS:
                likeness[name] = LIKENESS[name](encoder, device)
            elif name in PROMPT:
                prompt[name] = PROMPT[name](encoder, device)
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
    "mobilenet": MobileNetEvaluator,
}


PROMPT: dict[str, Callable[[str, torch.device], Reward]] = {
    "clip-t": lambda encoder, device: ClipT(model_path(encoder), device),
}

# Metrics by name that are rewards elsewhere: the reward's kind, and what the metric's name settles.
SCORED: dict[str, tuple[str, dict[str, str]]] = {
    "pickscore": ("pickscore", {"side": "prompt"}),
    "hpsv3": ("hpsv3", {"side": "prompt"}),
    "vlm-prompt": ("vlm-judge", {"side": "prompt", "score": "prompt"}),
    "vlm-identity": ("vlm-judge", {"side": "identity", "score": "identity"}),
}
LARGE = {"hpsv3"}  # is not loaded to see whether it can be
