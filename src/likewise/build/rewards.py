"""What rates pictures in training."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from pydantic import TypeAdapter

from likewise.build.models import model_path
from likewise.config import rewards as sections
from likewise.config.recipe import Recipe
from likewise.protocols import AnyReward, GroupReward, Reward
from likewise.quiet import be_quiet
from likewise.rewards.clip import ClipI, ClipReward
from likewise.rewards.copy_index import CopyIndexReward
from likewise.rewards.dino import DinoReward
from likewise.rewards.function import FunctionReward
from likewise.rewards.hpsv3 import HpsV3Reward
from likewise.rewards.in_group_diversity import InGroupDiversity
from likewise.rewards.pickscore import PickScoreReward
from likewise.rewards.remote import RemoteReward
from likewise.rewards.segmenters import load_segmenter
from likewise.rewards.vlm_judge import VlmJudgeReward
from likewise.trainer.launch import auto_device


def build_rewards(recipe: Recipe, device: torch.device) -> dict[str, AnyReward]:
    """The recipe's rewards by name, in its order.

    Raises:
        ValueError, OSError: a model, function or key is not there, or does not fit (the message
            begins with the field).
    """
    be_quiet()
    return {name: _named(name, settings, device) for name, settings in recipe.rewards.items()}


def build_reward(kind: str, settings: Mapping[str, Any], device: str | None = None) -> Reward:
    """One reward without a recipe, from what would be its section there.

    Args:
        settings: `side` need not be among them.

    Raises:
        ValueError, OSError: there is no such kind, setting or model, they do not fit, or the kind
            needs whole groups.
    """
    be_quiet()
    section = TypeAdapter(sections.Reward).validate_python(
        {"side": "prompt", **settings, "kind": kind}
    )
    reward = _named(kind, section, torch.device(device or auto_device()))
    if isinstance(reward, GroupReward):
        raise ValueError(f"{kind} compares the pictures of a group, and has nothing to say of one")
    return reward


def _named(name: str, settings: sections.Reward, device: torch.device) -> AnyReward:
    try:
        return REWARDS[settings.kind](settings, device)
    except ValueError as error:
        raise ValueError(f"rewards.{name}.{error}") from error


def _clip(settings: sections.Clip, device: torch.device) -> Reward:
    kind: type[ClipReward | ClipI] = ClipI if settings.compare_to == "reference" else ClipReward
    with _naming("model"):
        return kind(model_path(settings.model), device)


def _dino(settings: sections.Dino, device: torch.device) -> Reward:
    name = settings.segmenter
    with _naming("segmenter"):
        segmenter = None if name is None else load_segmenter(name, device)
    with _naming("model"):
        return DinoReward(
            model_path(settings.model),
            settings.segment,
            device,
            segment_generated=settings.segment_generated,
            segmenter=segmenter,
        )


def _pickscore(settings: sections.PickScore, device: torch.device) -> Reward:
    dtype = getattr(torch, settings.dtype)
    with _naming("model"):
        return PickScoreReward(settings.model, settings.processor, device, dtype)


def _hpsv3(settings: sections.HpsV3, device: torch.device) -> Reward:
    dtype = getattr(torch, settings.dtype)
    try:
        return HpsV3Reward(settings.model, settings.base, device, dtype, settings.batch)
    except OSError as error:
        raise ValueError(f"base: {error}") from error


def _encoder(settings: sections.CopyIndex | sections.InGroupDiversity, device: Any) -> DinoReward:
    with _naming("model"):
        return DinoReward(model_path(settings.model), device=device)


def _function(settings: sections.Function, device: torch.device) -> Reward:
    with _naming("target"):
        return FunctionReward.load(settings.target)


@contextmanager
def _naming(field: str) -> Iterator[None]:
    """Begin with the field's name what goes wrong when it is loaded."""
    try:
        yield
    except (ImportError, AttributeError, TypeError, OSError, ValueError) as error:
        raise ValueError(f"{field}: {error}") from error


# Rewards by `kind`. A new one is a file in rewards/, a section in config/rewards/ and a line here.
REWARDS: dict[str, Callable[[Any, torch.device], AnyReward]] = {
    "clip": _clip,
    "dino": _dino,
    "pickscore": _pickscore,
    "hpsv3": _hpsv3,
    "copy-index": lambda settings, device: CopyIndexReward(_encoder(settings, device)),
    "in-group-diversity": lambda settings, device: InGroupDiversity(_encoder(settings, device)),
    "vlm-judge": lambda settings, device: VlmJudgeReward.load(settings),
    "remote": lambda settings, device: RemoteReward(settings),
    "function": _function,
}
