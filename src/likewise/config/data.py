"""The data of a recipe: what is drawn, in training and evaluation. Does not import torch."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from likewise.config.section import Section


class Stickers(Section):
    """The sticker world: endless tasks for training, sticker bench for evaluation."""

    kind: Literal["stickers"] = "stickers"
    seed: int = Field(0, ge=0, description="of the stream of training tasks")


class DreamBench(Section):
    """Photos and prompts in google/dreambooth's layout, for training and evaluation alike."""

    kind: Literal["dreambench"] = "dreambench"
    path: str = Field("dreambooth/dataset", description="folder with one folder per subject")
    seed: int = Field(0, ge=0, description="of the order of training tasks")


Data = Stickers | DreamBench
