"""The identity reward's nano DINOv2: self-supervised on whole images, as the real one is.

Two views of one image must agree, and for a share of samples two images of one individual in
different scenes. The first alone would encode the scene as much as the subject; the second alone
would ignore the scene. Together they give what real DINO gives: it knows subjects, and is partly
entangled with pose and background. That is on purpose: it is what makes copying pay.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F
from transformers import Dinov2Config, Dinov2Model

from likewise.data.stickers.rendering import SIDE, Spec, Variant
from likewise.pretrain import held_out
from likewise.pretrain.contrastive import image_processor, info_nce
from likewise.pretrain.conversion import to_tensor
from likewise.pretrain.loop import Batch, FitRun, FitSettings, fit, start_from
from likewise.pretrain.samples import draw, random_look, random_subject, random_variant, rival
from likewise.pretrain.views import degrade, random_crop, random_look_in, relight
from likewise.rewards.dino import DinoReward
from likewise.seeding import numpy_rng
from likewise.tensors import save_pretrained

SETTINGS = FitSettings(
    name="identity",
    steps=800,
    batch_size=64,
    learning_rate=1.5e-3,
    weight_decay=0.05,
    ema_decay=0.99,
    bf16=True,
)

PAIR_SHARE = 0.5  # of samples show one individual in two scenes; the others are two views
TEMPERATURE = 0.15  # lower: same-subject cosines nearer to 1, other subjects further apart


def build() -> Dinov2Model:
    """[B, 3, 64, 64] in [-1, 1] → CLS token [B, 128]."""
    torch.manual_seed(0)
    config = Dinov2Config(
        image_size=SIDE,
        patch_size=8,
        hidden_size=128,
        num_hidden_layers=4,
        num_attention_heads=4,
        mlp_ratio=4,
        layerscale_value=1.0,
    )
    return Dinov2Model(config)


def train(run: FitRun, target: Path, settings: FitSettings = SETTINGS) -> bool:
    """Train (or resume); when finished, save model and image processor to `target`."""
    model = build()
    start_from(model, run.warm_start and run.warm_start / "nano-dinov2")
    if not fit(model, identity_sample, lambda batch, _: _loss(model, batch), settings, run):
        return False
    save_pretrained(model.to("cpu"), target)
    save_pretrained(image_processor(), target)
    return True


def identity_sample(index: int) -> Mapping[str, Tensor]:
    """Float32 [3, 64, 64] in [-1, 1]: ``first`` and ``second``, two views that belong together, and
    ``other``, a rival individual, which differs in its mark alone."""
    rng = numpy_rng("identity", index)
    subject, variant = random_subject(rng), random_variant(rng)
    colour = random_look(rng).get("colour")  # an individual keeps its colours

    def view_of(variant: Variant) -> Image.Image:
        return draw(Spec(subject, variant=variant, **random_look_in(colour, rng)), rng).image

    first = view_of(variant)
    second = view_of(variant) if rng.random() < PAIR_SHARE else random_crop(first, rng)
    other = view_of(rival(variant, rng))
    return {"first": _view(first, rng), "second": _view(second, rng), "other": _view(other, rng)}


def _view(image: Image.Image, rng: np.random.Generator) -> Tensor:
    return to_tensor(degrade(relight(random_crop(image, rng, 0.8), rng), rng, 0.3))


def _loss(model: Dinov2Model, batch: Batch) -> tuple[Tensor, Mapping[str, Tensor]]:
    views = torch.cat([batch["first"], batch["second"], batch["other"]])
    first, second, other = F.normalize(model(views).pooler_output.float(), dim=-1).chunk(3)
    loss = info_nce(first, torch.cat([second, other]), TEMPERATURE)
    loss = loss + info_nce(second, torch.cat([first, other]), TEMPERATURE)
    cosines = first @ second.T
    return loss / 2, {
        "positive": cosines.diagonal().mean(),
        "rival": (first * other).sum(1).mean(),
        "negative": (cosines.sum() - cosines.trace()) / (len(cosines) * (len(cosines) - 1)),
    }


def quality(model_dir: Path) -> dict[str, float]:
    """Cosines and retrieval on held-out subjects; see ``held_out.identity_numbers``."""
    reward = DinoReward(model_dir)
    return held_out.identity_numbers(reward.embed)
