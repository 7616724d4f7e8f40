"""What rates images in training."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from pydantic import ValidationError

from likewise import assets
from likewise.builders.model_names import model_path
from likewise.config import rewards as sections
from likewise.config.problems import RecipeError, describe
from likewise.config.recipe import Recipe
from likewise.config.section import Section
from likewise.data.stickers.world import asked_for
from likewise.devices import device_beside, find_device
from likewise.protocols import AnyReward, GroupReward, Reward
from likewise.rewards.clip import ClipI, ClipReward
from likewise.rewards.common.inputs import BATCH_SIZE as BATCH_SIZE
from likewise.rewards.copy_index import CopyIndexReward
from likewise.rewards.dino import DinoReward
from likewise.rewards.evaluators import IdentityEvaluator, PromptEvaluator
from likewise.rewards.function import FunctionReward
from likewise.rewards.hpsv3 import HpsV3Reward
from likewise.rewards.in_group_diversity import InGroupDiversity
from likewise.rewards.pickscore import PickScoreReward
from likewise.rewards.remote import RemoteReward
from likewise.rewards.segmenters import load_segmenter
from likewise.rewards.vlm_judge import VlmJudgeReward
from likewise.rollout.scoring import single_rewards


def build_rewards(recipe: Recipe, device: torch.device) -> dict[str, AnyReward]:
    """The recipe's rewards by name, in its order.

    Raises:
        ValueError, OSError: a model, function or key is not there, or does not fit (the message
            begins with the field).
    """
    return _build_all("rewards", recipe.rewards, device)


def build_evaluators(
    recipe: Recipe | None, device: torch.device, stickers: bool
) -> dict[str, Reward]:
    """Held-out evaluators by name: the recipe's, else those of the sticker world on stickers.

    Args:
        recipe: None where images come without one.
        stickers: Whether stickers are drawn.

    Raises:
        ValueError, OSError: as `build_rewards`.
    """
    if recipe is None or recipe.evaluators is None:
        return _sticker_evaluators(device) if stickers else {}
    return single_rewards(_build_all("evaluators", recipe.evaluators, device))


def _sticker_evaluators(device: torch.device) -> dict[str, Reward]:
    """Held-out evaluators of the sticker world: identity (cosine), and prompt success (0 or 1).

    Identity compares with the world's own drawing of the task, not with the reference.
    """
    return {
        "identity": IdentityEvaluator(assets.path("evaluator-identity"), device, asked_for),
        "prompt": PromptEvaluator(assets.path("evaluator-prompt"), device, strict=True),
    }


def _build_all(
    section: str, settings: Mapping[str, sections.Reward], device: torch.device
) -> dict[str, AnyReward]:
    encoders = _Encoders(device)
    return {name: _named(f"{section}.{name}", one, encoders) for name, one in settings.items()}


def check_reachable(section: str, scorers: Mapping[str, AnyReward]) -> None:
    """Ask those that compute elsewhere whether they are there, before anything is drawn.

    Args:
        section: Of the recipe, which holds them by name.

    Raises:
        ValueError: one is not (the message begins with the field, and names address and cause).
    """
    for name, reward in scorers.items():
        if isinstance(reward, RemoteReward | VlmJudgeReward):
            try:
                reward.probe()
            except ValueError as error:
                raise ValueError(f"{section}.{name}.{error}") from error


def build_reward(kind: str, settings: Mapping[str, Any], device: str | None = None) -> Reward:
    """One reward without a recipe, from what would be its section there.

    Args:
        settings: `side` need not be among them.

    Raises:
        RecipeError: there is no such kind or setting, or the kind needs whole groups. The message
            holds no value: one may be a key in the wrong place.
        ValueError: a model, function or key is not there, or does not fit.
    """
    section = check_reward(kind, settings)
    encoders = _Encoders(find_device(device))
    reward = _named(f"rewards.{kind}", section, encoders)
    assert not isinstance(reward, GroupReward)
    return reward


def check_reward(kind: str, settings: Mapping[str, Any]) -> sections.Reward:
    """The section of a reward that `build_reward` would build.

    Raises:
        RecipeError: as `build_reward`.
    """
    try:
        section = _One(rewards={kind: {"side": "prompt", **settings, "kind": kind}}).rewards[kind]
    except ValidationError as error:
        raise RecipeError(describe(error, _One, lambda path: "")) from None
    if isinstance(section, sections.InGroupDiversity):
        raise RecipeError(f"{kind} compares the images of a group, and says nothing of one alone")
    return section


class _One(Section):
    """A recipe of nothing but rewards."""

    rewards: dict[str, sections.Reward]


class _Encoders:
    """DINOs by model and device: rewards that look at whole images share one."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.loaded: dict[tuple[str, torch.device], DinoReward] = {}

    def load(self, settings: Any) -> DinoReward:
        model, device = settings.model, self.place(settings)
        if (model, device) not in self.loaded:
            with _naming("model"):
                self.loaded[model, device] = DinoReward(model_path(model), device=device)
        return self.loaded[model, device]

    def place(self, settings: Any) -> torch.device:
        """Where a reward computes. Raises ValueError where there is no such GPU."""
        if settings.device is None:
            return self.device
        with _naming("device"):
            return device_beside(self.device, settings.device)


def _named(path: str, settings: sections.Reward, encoders: _Encoders) -> AnyReward:
    try:
        return REWARDS[settings.kind](settings, encoders)
    except ValueError as error:
        raise ValueError(f"{path}.{error}") from error


def _clip(settings: sections.Clip, encoders: _Encoders) -> Reward:
    device = encoders.place(settings)
    kind: type[ClipReward | ClipI] = ClipI if settings.compare_to == "reference" else ClipReward
    with _naming("model"):
        return kind(model_path(settings.model), device)


def _dino(settings: sections.Dino, encoders: _Encoders) -> Reward:
    name = settings.segmenter
    if settings.band == "all" and not (settings.segment or settings.segment_generated):
        return encoders.load(settings)
    device = encoders.place(settings)
    with _naming("segmenter"):
        segmenter = None if name is None else load_segmenter(name, device)
    with _naming("model"):
        return DinoReward(
            model_path(settings.model),
            settings.segment,
            device,
            segment_generated=settings.segment_generated,
            segmenter=segmenter,
            band=settings.band,
            blur=settings.blur,
        )


def _pickscore(settings: sections.PickScore, encoders: _Encoders) -> Reward:
    dtype, device = getattr(torch, settings.dtype), encoders.place(settings)
    with _naming("model"):
        return PickScoreReward(settings.model, settings.processor, device, dtype)


def _hpsv3(settings: sections.HpsV3, encoders: _Encoders) -> Reward:
    dtype, device = getattr(torch, settings.dtype), encoders.place(settings)
    try:
        return HpsV3Reward(settings.model, settings.base, device, dtype, settings.batch)
    except OSError as error:
        raise ValueError(f"base: {error}") from error


def _copy_index(settings: sections.CopyIndex, encoders: _Encoders) -> Reward:
    return CopyIndexReward(encoders.load(settings), settings.side != "diagnostic")


def _diversity(settings: sections.InGroupDiversity, encoders: _Encoders) -> GroupReward:
    return InGroupDiversity(encoders.load(settings))


def _function(settings: sections.Function, encoders: _Encoders) -> Reward:
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
REWARDS: dict[str, Callable[[Any, _Encoders], AnyReward]] = {
    "clip": _clip,
    "dino": _dino,
    "pickscore": _pickscore,
    "hpsv3": _hpsv3,
    "copy-index": _copy_index,
    "in-group-diversity": _diversity,
    "vlm-judge": lambda settings, encoders: VlmJudgeReward.load(settings),
    "remote": lambda settings, encoders: RemoteReward(settings),
    "function": _function,
}
