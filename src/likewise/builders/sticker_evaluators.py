"""The held-out evaluators that ship with the sticker world."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from likewise import assets
from likewise.data.stickers.world import asked_for
from likewise.protocols import Reward
from likewise.rewards.evaluators import IdentityEvaluator, PromptEvaluator


def build_sticker_evaluators(device: torch.device) -> Mapping[str, Reward]:
    """Held-out evaluators of the sticker world: identity (cosine), and prompt success (0 or 1).

    Identity compares with the world's own drawing of the task, not with the reference.
    """
    return {
        "identity": IdentityEvaluator(assets.path("evaluator-identity"), device, asked_for),
        "prompt": PromptEvaluator(assets.path("evaluator-prompt"), device, strict=True),
    }
