"""The data of a recipe: what is drawn, in training and evaluation. Does not import torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from pydantic import Field, NonNegativeInt, PositiveInt

from likewise.config.section import Section


class Stickers(Section):
    """The sticker world: endless tasks for training, sticker bench for evaluation."""

    kind: Literal["stickers"] = "stickers"
    seed: int = Field(0, ge=0, description="of the stream of training tasks")
    recolouring: float | None = Field(
        None,
        ge=0,
        le=1,
        description="share of training tasks that ask for another colour alone, on which identity "
        "and prompt conflict; null: 0.15",
    )


class DreamBench(Section):
    """Photos and prompts in google/dreambooth's layout, for training and evaluation alike."""

    kind: Literal["dreambench"] = "dreambench"
    path: str = Field("dreambooth/dataset", description="folder with one folder per subject")
    seed: int = Field(0, ge=0, description="of the order of training tasks")


class Photos(Section):
    """What custom datasets have in common; layouts are in docs/data.md."""

    kind: str
    path: str = Field(description="file or folder, as its kind has it")
    seed: int = Field(0, ge=0, description="of the order of training tasks")
    evaluation: str | None = Field(
        None, description="another path of this kind to evaluate on; null: held-out subjects"
    )
    held_out: int | None = Field(
        10,
        ge=2,
        description="one in so many subjects is evaluated on and never trained on, where "
        "evaluation is null; null: none",
    )
    skip_bad: bool = Field(False, description="go on without bad rows, instead of refusing them")
    workers: NonNegativeInt = Field(
        2, description="processes that open images ahead, per training process"
    )


class Folder(Photos):
    """One folder of photos per subject, and prompts with a slot for the class."""

    kind: Literal["folder"] = "folder"
    references: PositiveInt = Field(
        1, description="photos of a subject that condition, by name; the others are held out"
    )


class Jsonl(Photos):
    """A file with one task per line, and images beside it."""

    kind: Literal["jsonl"] = "jsonl"


class SynCd(Photos):
    """SynCD: sets of images of one object, each image with its prompt."""

    kind: Literal["syncd"] = "syncd"
    references: PositiveInt = Field(1, description="other images of the set that condition")


class Subjects200k(Photos):
    """Subjects200K: Parquet files with pairs of images of one object, side by side."""

    kind: Literal["subjects200k"] = "subjects200k"
    quality: int = Field(5, ge=0, le=5, description="least of a pair's three ratings; 0: all pairs")
    padding: NonNegativeInt = Field(8, description="pixels around each half of a composite")


Data = Stickers | DreamBench | Folder | Jsonl | SynCd | Subjects200k

KINDS: dict[str, Callable[..., DreamBench | Photos]] = {
    "folder": Folder,
    "jsonl": Jsonl,
    "syncd": SynCd,
    "subjects200k": Subjects200k,
    "dreambench": DreamBench,
}
