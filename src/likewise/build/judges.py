"""The held-out evaluators that ship with the sticker world."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from likewise import assets
from likewise.protocols import Reward
from likewise.quiet import be_quiet
from likewise.data.stickers import asked_for
from likewise.rewards.judges import IdentityJudge, PromptJudge


def build_judges(device: torch.device) -> Mapping[str, Reward]:
    """The sticker world's judges, never rewards: identity (cosine), and prompt success (0 or 1)."""
    be_quiet()
    return {
        "identity": IdentityJudge(assets.path("judge-identity"), device, asked_for),
        "prompt": PromptJudge(assets.path("judge-prompt"), device, strict=True),
    }
