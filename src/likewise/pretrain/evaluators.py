"""The evaluators: ResNets (the rewards are transformers), trained with labels, for evaluation only.

Convolutions train in float32: on CPUs their backward pass is an order of magnitude slower in
bfloat16.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import ResNetConfig, ResNetForImageClassification, ResNetModel

from likewise.data.stickers.prompts import ATTRIBUTES
from likewise.data.stickers.rendering import COLOURS, Spec
from likewise.pretrain import held_out
from likewise.pretrain.contrastive import image_processor, info_nce
from likewise.pretrain.conversion import to_tensor
from likewise.pretrain.loop import Batch, FitRun, FitSettings, fit, start_from
from likewise.pretrain.samples import (
    draw,
    random_look,
    random_subject,
    random_variant,
    rival,
)
from likewise.pretrain.views import degrade, random_look_in, relight
from likewise.rewards.evaluators import IdentityEvaluator, PromptEvaluator
from likewise.seeding import derive_seed, numpy_rng
from likewise.tensors import save_pretrained

IDENTITY_SETTINGS = FitSettings(
    name="evaluator-identity",
    steps=1600,
    batch_size=64,
    learning_rate=2e-3,
    weight_decay=0.05,
    ema_decay=0.99,
    bf16=False,
)

PROMPT_SETTINGS = FitSettings(
    name="evaluator-prompt",
    steps=800,
    batch_size=64,
    learning_rate=2e-3,
    weight_decay=0.05,
    ema_decay=0.99,
    bf16=False,
)
TEMPERATURE = 0.1
# First learn colours and marks, from rivals that differ in them alone; then outlines too, from
# other subjects of the same colour and mark: without those, a dark grey camera passes for a rhino.
SHAPE_RIVALS_FROM = 32_000  # samples
MARK_RIVAL_SHARE = 0.65  # of the rivals that are of the same kind
LABELS = tuple(f"{name}:{value}" for name, values in ATTRIBUTES.items() for value in values)


def _config(**more: object) -> ResNetConfig:
    return ResNetConfig(
        embedding_size=32, hidden_sizes=[48, 96, 192], depths=[1, 1, 1], layer_type="basic", **more
    )


def build_identity() -> ResNetModel:
    """[B, 3, 64, 64] in [-1, 1] → pooled features [B, 192, 1, 1], none negative."""
    torch.manual_seed(1)
    return ResNetModel(_config()).to(memory_format=torch.channels_last)


def build_prompt() -> ResNetForImageClassification:
    """[B, 3, 64, 64] in [-1, 1] → logits [B, 28], one softmax per attribute."""
    torch.manual_seed(2)
    id2label = dict(enumerate(LABELS))
    config = _config(id2label=id2label, label2id={label: key for key, label in id2label.items()})
    return ResNetForImageClassification(config).to(memory_format=torch.channels_last)


def train_identity(run: FitRun, target: Path, settings: FitSettings = IDENTITY_SETTINGS) -> bool:
    """Train (or resume) the identity evaluator; when finished, save it to `target`."""
    model = build_identity()
    start_from(model, run.warm_start and run.warm_start / IDENTITY_SETTINGS.name)

    def loss(batch: Batch, _: torch.Generator) -> tuple[Tensor, Mapping[str, Tensor]]:
        return _identity_loss(model, batch)

    return fit(model, individual_sample, loss, settings, run) and _save(model, target)


def train_prompt(run: FitRun, target: Path, settings: FitSettings = PROMPT_SETTINGS) -> bool:
    """Train (or resume) the prompt evaluator; when finished, save it to `target`."""
    model = build_prompt()
    start_from(model, run.warm_start and run.warm_start / PROMPT_SETTINGS.name)

    def loss(batch: Batch, _: torch.Generator) -> tuple[Tensor, Mapping[str, Tensor]]:
        return _prompt_loss(model, batch)

    return fit(model, attribute_sample, loss, settings, run) and _save(model, target)


def _save(model: ResNetModel | ResNetForImageClassification, target: Path) -> bool:
    save_pretrained(model.to("cpu", memory_format=torch.contiguous_format), target)
    save_pretrained(image_processor(), target)
    return True


def individual_sample(index: int) -> Mapping[str, Tensor]:
    """Two images of an individual and one of its nearest rival, float32 [3, 64, 64] each.

    An individual is a sticker, a variant (with its mark) and perhaps a colour. ``individual`` and
    ``rival`` are int64 identifiers.
    """
    rng = numpy_rng("evaluator-identity", index)
    subject, variant = random_subject(rng), random_variant(rng)
    own = Spec(subject, colour=random_look(rng).get("colour"), variant=variant)
    if index >= SHAPE_RIVALS_FROM and rng.random() < 0.3:
        own = replace(own, colour=own.colour or tuple(COLOURS)[rng.integers(len(COLOURS))])
        other = replace(own, subject=random_subject(rng))
    elif rng.random() < MARK_RIVAL_SHARE:
        other = replace(own, variant=rival(variant, rng))
    else:
        other = _recoloured(own, rng)

    def view(spec: Spec) -> Tensor:
        look = random_look_in(spec.colour, rng)
        return _flawed(Spec(spec.subject, variant=spec.variant, **look), rng)

    return {
        "first": view(own),
        "second": view(own),
        "other": view(other),
        "individual": _identifier(own),
        "rival": _identifier(other),
    }


def _recoloured(own: Spec, rng: np.random.Generator) -> Spec:
    """The same sticker in other colours: recoloured, or with its hues turned by a clear angle."""
    if rng.random() < 0.7 or own.colour is not None:
        others = [colour for colour in (None, *COLOURS) if colour != own.colour]
        return replace(own, colour=others[rng.integers(len(others))])
    hue = (own.variant.hue + rng.uniform(60.0, 300.0)) % 360.0
    return replace(own, variant=replace(own.variant, hue=float(hue)))


def _identifier(spec: Spec) -> Tensor:
    return torch.tensor(derive_seed(spec.subject, str(spec.colour), repr(spec.variant)))


def attribute_sample(index: int) -> Mapping[str, Tensor]:
    """``image`` float32 [3, 64, 64] in [-1, 1] and ``labels`` int64 [4], in order of ATTRIBUTES."""
    rng = numpy_rng("evaluator-prompt", index)
    look = random_look(rng)
    spec = Spec(random_subject(rng), variant=random_variant(rng), **look)
    labels = [values.index(look.get(name, values[0])) for name, values in ATTRIBUTES.items()]
    return {"image": _flawed(spec, rng), "labels": torch.tensor(labels)}


def _flawed(spec: Spec, rng: np.random.Generator) -> Tensor:
    """A rendering with the flaws of generated images, so that evaluators see through them."""
    return to_tensor(degrade(relight(draw(spec, rng).image, rng, 0.08), rng))


def _identity_loss(model: ResNetModel, batch: Batch) -> tuple[Tensor, Mapping[str, Tensor]]:
    """Supervised contrastive: one's own individual against all others and their rivals."""
    images = torch.cat([batch["first"], batch["second"], batch["other"]])
    features = model(images.contiguous(memory_format=torch.channels_last)).pooler_output.flatten(1)
    first, second, other = F.normalize(features.float(), dim=-1).chunk(3)
    label, size = batch["individual"], len(first)
    # By chance a candidate may be the same individual: then it is not a negative.
    same = label[:, None] == torch.cat([label, batch["rival"]])
    same[:, :size].fill_diagonal_(False)
    forwards = info_nce(first, torch.cat([second, other]), TEMPERATURE, same)
    backwards = info_nce(second, torch.cat([first, other]), TEMPERATURE, same)
    return (forwards + backwards) / 2, {
        "positive": (first * second).sum(1).mean(),
        "rival": (first * other).sum(1).mean(),
        "negative": (first * second.roll(1, 0)).sum(1).mean(),
    }


def _prompt_loss(
    model: ResNetForImageClassification, batch: Batch
) -> tuple[Tensor, Mapping[str, Tensor]]:
    """Cross entropy per attribute."""
    logits = model(batch["image"].contiguous(memory_format=torch.channels_last)).logits
    groups = logits.split([len(values) for values in ATTRIBUTES.values()], dim=1)
    losses, right = [], {}
    for name, group, labels in zip(ATTRIBUTES, groups, batch["labels"].T, strict=True):
        losses.append(F.cross_entropy(group, labels))
        right[name] = (group.argmax(1) == labels).float().mean()
    return torch.stack(losses).sum(), right


def identity_quality(model_dir: Path) -> dict[str, float]:
    """Cosines and retrieval on held-out subjects; see ``held_out.identity_numbers``."""
    return held_out.identity_numbers(IdentityEvaluator(model_dir).embed)


def prompt_quality(model_dir: Path) -> dict[str, float]:
    """Accuracy per attribute, and of all four at once, on held-out subjects."""
    album = held_out.in_any_look()
    seen = PromptEvaluator(model_dir).attributes(held_out.images(album))
    right = torch.tensor(
        [
            [look[name] == photo.look.get(name, values[0]) for name, values in ATTRIBUTES.items()]
            for photo, look in zip(album, seen, strict=True)
        ],
        dtype=torch.float32,
    )
    numbers = dict(zip(ATTRIBUTES, right.mean(0).tolist(), strict=True))
    return {**numbers, "all four": float(right.prod(1).mean())}
