"""What the nano models are trained on: random draws from the sticker world, training split only.

Sample `i` of a purpose depends on `(purpose, i)` alone. Held-out subjects cannot occur: every
subject comes from :func:`training_subjects`.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from likewise.data.stickers.art import shipped_art
from likewise.data.stickers.marks import other_mark, random_mark
from likewise.data.stickers.prompts import write_prompt
from likewise.data.stickers.rendering import COLOURS, Drawing, Spec, Variant, render
from likewise.data.stickers.scenes import SCENES
from likewise.pretrain.conversion import to_tensor
from likewise.seeding import numpy_rng

_SCENES, _COLOURS = tuple(SCENES), tuple(COLOURS)


@functools.cache
def training_subjects() -> tuple[str, ...]:
    """Every subject that may be trained on."""
    return tuple(shipped_art().subjects(held_out=False))


def random_subject(rng: np.random.Generator) -> str:
    subjects = training_subjects()
    return subjects[rng.integers(len(subjects))]


def random_variant(rng: np.random.Generator, share: float = 0.6) -> Variant:
    """An individual: a random mark, and with probability `share` made-up colours and shape."""
    mark = random_mark(rng)
    if rng.random() >= share:
        return Variant(mark)
    return Variant(
        mark,
        hue=float(rng.uniform(0.0, 360.0)),
        mirrored=bool(rng.random() < 0.5),
        stretch=float(np.exp(rng.uniform(-0.3, 0.3))),
    )


def rival(variant: Variant, rng: np.random.Generator) -> Variant:
    """Another individual of the same kind and colours: only the mark differs."""
    return replace(variant, mark=other_mark(variant.mark, rng))


def random_look(
    rng: np.random.Generator, layout_share: float = 0.4, colour_share: float = 0.35
) -> dict[str, str]:
    """Scene, colour, size and place, each constrained with a fair chance.

    `layout_share` is the chance of an unusual size, and (unless huge) of an unusual place.
    """
    look: dict[str, str] = {}
    if rng.random() < 0.75:
        look["scene"] = _SCENES[rng.integers(len(_SCENES))]
    if rng.random() < colour_share:
        look["colour"] = _COLOURS[rng.integers(len(_COLOURS))]
    if rng.random() < layout_share:
        look["size"] = ("tiny", "huge")[rng.integers(2)]
    if look.get("size") != "huge" and rng.random() < layout_share:
        look["place"] = ("left", "right")[rng.integers(2)]
    return look


def draw(spec: Spec, rng: np.random.Generator) -> Drawing:
    """Render with the shipped stickers."""
    return render(shipped_art(), spec, rng)


def vae_sample(index: int) -> Mapping[str, Tensor]:
    """Any image of the world: ``image`` float32 [3, 64, 64] in [-1, 1] and ``mask`` float32
    [1, 64, 64] in [0, 1], the subject."""
    rng = numpy_rng("vae", index)
    spec = Spec(random_subject(rng), variant=random_variant(rng), **random_look(rng))
    drawing = draw(spec, rng)
    mask = torch.from_numpy(np.asarray(drawing.mask, dtype=np.float32) / 255)
    return {"image": to_tensor(drawing.image), "mask": mask[None]}


@functools.cache
def training_names() -> tuple[str, ...]:
    """Plain names of every training subject."""
    return tuple(shipped_art()[subject].name for subject in training_subjects())


def prompt_corpus(count: int = 20_000) -> Iterator[str]:
    """Prompts for training tokenizers: random constraints, training names only."""
    rng = numpy_rng("corpus")
    names = training_names()
    for index in range(count):
        yield write_prompt(names[index % len(names)], random_look(rng), rng)
