"""Images of the held-out subjects, and how well encoders tell them apart.

Only for measuring: nothing here is ever trained on.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from likewise.data.stickers.art import shipped_art
from likewise.data.stickers.prompts import constraints_of
from likewise.data.stickers.rendering import COLOURS, Drawing, Spec
from likewise.data.stickers.scenes import SCENES
from likewise.data.stickers.world import individual
from likewise.pretrain.samples import draw, random_look, rival
from likewise.rewards.dino import segmented as segment
from likewise.seeding import numpy_rng

PER_SUBJECT = 20
Looks = Callable[[np.random.Generator], dict[str, str]]
Embed = Callable[[Sequence[Image.Image]], Tensor]


@dataclass(frozen=True)
class Photo:
    """An image of a held-out subject and what it shows (``look``: constrained attributes only)."""

    subject: int  # position among the held-out subjects
    name: str
    look: dict[str, str]
    drawing: Drawing


@functools.cache
def subjects() -> tuple[str, ...]:
    """Identifiers of the held-out subjects; :class:`Photo` counts them in this order."""
    return tuple(shipped_art().subjects(held_out=True))


def photos(purpose: str, looks: Looks, count: int) -> list[Photo]:
    """`count` images of each held-out subject; `looks` draws what each must show."""
    art, made = shipped_art(), []
    for number, subject in enumerate(subjects()):
        for index in range(count):
            rng = numpy_rng("held-out", purpose, subject, index)
            look = looks(rng)
            drawing = draw(Spec(subject, variant=individual(subject), **look), rng)
            made.append(Photo(number, art[subject].name, constraints_of(look), drawing))
    return made


@functools.cache
def references() -> list[Photo]:
    """One reference of each subject, on the plain backdrop."""
    return photos("reference", lambda rng: {}, 1)


@functools.cache
def in_scenes() -> list[Photo]:
    """Every subject in random scenes, of usual colour, size and place."""
    return photos("scene", lambda rng: {"scene": _any(rng, SCENES)}, PER_SUBJECT)


@functools.cache
def recoloured() -> list[Photo]:
    """Every subject in random scenes, recoloured: another individual."""
    return photos(
        "recoloured",
        lambda rng: {"scene": _any(rng, SCENES), "colour": _any(rng, COLOURS)},
        PER_SUBJECT,
    )


@functools.cache
def rivals() -> list[Photo]:
    """As :func:`in_scenes`, but of other individuals: the same kind and colours, another mark."""
    made: list[Photo] = []
    for photo in in_scenes():
        subject = subjects()[photo.subject]
        rng = numpy_rng("held-out rival", subject, len(made))
        spec = Spec(subject, variant=rival(individual(subject), rng), **photo.look)
        made.append(replace(photo, drawing=draw(spec, rng)))
    return made


@functools.cache
def in_any_look() -> list[Photo]:
    """Every subject with random scene, colour, size and place, as prompts ask for."""
    return photos("any", random_look, PER_SUBJECT)


def images(album: Sequence[Photo]) -> list[Image.Image]:
    return [photo.drawing.image for photo in album]


def segmented(album: Sequence[Photo]) -> list[Image.Image]:
    """The images with everything but the subject greyed out."""
    return [segment(photo.drawing.image, photo.drawing.mask) for photo in album]


def identity_numbers(embed: Embed) -> dict[str, float]:
    """Mean cosines between images by what they share, and retrieval@1 among held-out subjects.

    ``segmented …`` compares a segmented image with a whole one, as a segmenting reward does.
    A rival differs from an image's individual in its mark alone; ``told from a rival`` is the share
    of images that are nearer to their own reference than their rival is. Retrieval asks for the
    subject of an image in a scene, given every subject's plain reference,
    or the mean of five such references.

    Args:
        embed: Images → [B, D]; scaled to unit length here.
    """
    album = in_scenes()
    whole, gallery = _embed(embed, images(album)), _embed(embed, images(references()))
    cut = _embed(embed, segmented(album))
    alien = _embed(embed, images(recoloured()))
    subjects = torch.tensor([photo.subject for photo in album])
    numbers = {"copy": float((whole * _embed(embed, images(album))).sum(1).mean())}
    numbers |= _shared(album, whole, whole)
    numbers |= {f"segmented {key}": value for key, value in _shared(album, cut, whole).items()}
    numbers["same subject, from plain reference"] = float((whole * gallery[subjects]).sum(1).mean())
    numbers["recoloured, from plain reference"] = float((alien * gallery[subjects]).sum(1).mean())
    marked = _embed(embed, images(rivals()))
    numbers["other mark, from plain reference"] = float((marked * gallery[subjects]).sum(1).mean())
    nearer = (whole * gallery[subjects]).sum(1) > (marked * gallery[subjects]).sum(1)
    numbers["told from a rival"] = float(nearer.float().mean())
    numbers["retrieval@1"] = retrieval(whole, gallery, subjects)
    numbers["segmented retrieval@1"] = retrieval(cut, gallery, subjects)
    numbers["retrieval@1, five references"] = retrieval(whole, _gallery_of_five(embed), subjects)
    return numbers


def _gallery_of_five(embed: Embed) -> Tensor:
    """One unit vector per subject [30, D]: the mean direction of five plain references."""
    album = photos("references", lambda rng: {}, 5)
    each = _embed(embed, images(album)).unflatten(0, (-1, 5))
    return F.normalize(each.mean(dim=1), dim=-1)


def retrieval(queries: Tensor, gallery: Tensor, subjects: Tensor) -> float:
    """Share of queries whose nearest gallery entry (one per subject) is their own subject."""
    return float(((queries @ gallery.T).argmax(dim=1) == subjects).float().mean())


def _shared(album: Sequence[Photo], first: Tensor, second: Tensor) -> dict[str, float]:
    """Mean cosine of pairs by whether they share the subject and the scene."""
    subjects = torch.tensor([photo.subject for photo in album])
    scenes = torch.tensor([list(SCENES).index(photo.look["scene"]) for photo in album])
    subject, scene = subjects[:, None] == subjects, scenes[:, None] == scenes
    groups = {
        "same subject, new scene": subject & ~scene,
        "other subject, same scene": ~subject & scene,
        "other subject, other scene": ~subject & ~scene,
    }
    cosines = first @ second.T
    return {name: float(cosines[group].mean()) for name, group in groups.items()}


def _embed(embed: Embed, images: Sequence[Image.Image]) -> Tensor:
    return F.normalize(embed(images).float().cpu(), dim=-1)


def _any(rng: np.random.Generator, names: Iterable[str]) -> str:
    options = tuple(names)
    return options[rng.integers(len(options))]
