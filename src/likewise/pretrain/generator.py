"""The nano generator: flow matching on (reference, prompt) → target, text encoders included."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch import Tensor, nn
from transformers import CLIPTokenizer, T5TokenizerFast

from likewise.data.stickers.prompts import ATTRIBUTES, write_prompt
from likewise.pretrain import nano
from likewise.pretrain.device_batches import DeviceBatches
from likewise.pretrain.loop import (
    Batch,
    DataMaker,
    FitRun,
    FitSettings,
    fit,
    start_from,
)
from likewise.pretrain.pacing import fill_time
from likewise.pretrain.pool import REFERENCES, TARGETS, Pool, load_or_build_pool
from likewise.pretrain.samples import prompt_corpus, training_names
from likewise.pretrain.sampling import progress_sheet
from likewise.seeding import numpy_rng


@dataclasses.dataclass(frozen=True)
class GeneratorSettings(FitSettings):
    """Those of every model, and when captions become noisy.

    Towards the end captions are as unreliable as those of the web. The generator then *sometimes*
    misses the prompt, as large ones do, which leaves reinforcement learning something to improve,
    and groups that differ in reward.

    Attributes:
        noisy_from: Share of training after which captions are noisy: 0 for all of it, 1 for none.
    """

    noisy_from: float = 6 / 7


SETTINGS = GeneratorSettings(
    name="generator",
    steps=22_800,
    batch_size=32,
    learning_rate=1.5e-3,
    muon_rate=3e-3,
    warmup_steps=300,
    ema_decay=0.999,
    save_every=500,
)
INDIVIDUALS = 12_000
WRONG_NAME_SHARE = 0.5  # how often the prompt names another thing: the reference must decide
EMPTY_PROMPT_SHARE = 0.08  # makes classifier-free guidance possible
# How often a noisy caption gives a plain image a scene, so that the generator at times leaves out a
# scene that it was asked for. While captions are noisy, plain images are drawn more often: sampling
# follows the majority, so that a minority of one in five would hardly ever be seen. A subject
# without its scene is still itself, while errors about places smear it, as few sampling steps
# average over both (docs/log.md).
MADE_UP_SCENE = 0.9
TEXT_ONLY_EVERY = 16  # every so many steps, a batch without references
# Noise levels are sigmoid(LEVEL_SPREAD·n + LEVEL_CENTRE), n normal: half of them below 0.6, where
# details are decided.
LEVEL_CENTRE, LEVEL_SPREAD = 0.4, 1.3
SUBJECT_WEIGHT = 3.0  # extra loss weight of tokens that the subject covers
USUAL_COVERAGE = 10.0  # tokens that a subject of usual size covers, roughly
MOST_EXTRA = 4.0  # a small subject's tokens count so many times more, so that it counts as much


def train(
    run: FitRun,
    vae_folder: Path,
    target: Path,
    settings: GeneratorSettings = SETTINGS,
    individuals: int = INDIVIDUALS,
) -> bool:
    """Train (or resume); save a pipeline to `target` when finished.

    Every save also writes the averaged weights as a pipeline (``snapshot/``) and what they draw of
    held-out subjects (``sheet-STEP.png``): look at them on the way.
    """
    vae = nano.load_vae(vae_folder)
    beginning = begin(run)
    pool = load_or_build_pool(run.folder, vae, individuals, run.device, run.workers)
    return train_on(pool, vae, beginning, run, target, settings)


class Beginning(NamedTuple):
    """Tokenizers, and a model that reads their ids."""

    clip: CLIPTokenizer
    t5: T5TokenizerFast
    model: nano.NanoGenerator


def train_on(
    pool: Pool,
    vae: AutoencoderKL,
    beginning: Beginning,
    run: FitRun,
    target: Path,
    settings: GeneratorSettings,
    *,
    on_device: bool | None = None,
    until_time_is_up: bool = False,
    on_save: Callable[[int], None] | None = None,
) -> bool:
    """As :func:`train`, with a pool and a model (:func:`begin`) that are at hand.

    Args:
        on_device: Keep the pool in the device's memory and make batches there (default: except on
            CPUs).
        until_time_is_up: Train for ``run.minutes``, whatever ``settings.steps`` says: see
            :func:`likewise.pretrain.pacing.fill_time`.
        on_save: Called with the step after every save.
    """
    clip, t5, model = beginning
    if run.compile:  # by block, which is as fast as the whole and takes less time to compile
        model.transformer.compile_repeated_blocks(dynamic=False)
    loss = FlowMatchingLoss(model)
    samples = SampleMaker(pool, clip, t5, settings)
    if on_device is None:
        on_device = run.device.type != "cpu"
    data: DataMaker = DeviceBatches(samples, run) if on_device else samples
    if until_time_is_up:
        settings, run = fill_time(model, data, loss, settings, run)
        samples.settings = settings  # says when captions become noisy

    def snapshot(averaged: nn.Module, step: int) -> None:
        assert isinstance(averaged, nano.NanoGenerator)
        nano.save_pipeline(averaged, vae, clip, t5, run.folder / "snapshot")
        averaged.to(run.device)
        sheet = progress_sheet(run.folder / "snapshot", run.device)
        sheet.save(run.folder / f"sheet-{step:06d}.png")
        if on_save is not None:
            on_save(step)

    if not fit(model, data, loss, settings, run, snapshot):
        return False
    nano.save_pipeline(model, vae, clip, t5, target)
    return True


def begin(run: FitRun) -> Beginning:
    """Tokenizers and a model, new or (`run.warm_start`) as a finished pipeline has them.

    Raises:
        ValueError: the finished weights have another shape (the message names their folder).
    """
    start = run.warm_start and run.warm_start / "nano-kontext"
    clip, t5 = (
        keep(run.folder / part, prompt_corpus(), start and start / part)
        for keep, part in (
            (nano.kept_clip_tokenizer, "tokenizer"),
            (nano.kept_t5_tokenizer, "tokenizer_2"),
        )
    )
    model = nano.NanoGenerator(clip, t5)
    for part in ("text_encoder", "text_encoder_2", "transformer"):
        start_from(getattr(model, part), start and start / part)
    return Beginning(clip, t5, model)


class SampleMaker:
    """Index → one training triple, from the pool (picklable, so that workers can hold it)."""

    def __init__(
        self, pool: Pool, clip: CLIPTokenizer, t5: T5TokenizerFast, settings: GeneratorSettings
    ) -> None:
        self.pool, self.clip, self.t5, self.settings = pool, clip, t5, settings

    def __call__(self, index: int) -> Batch:
        """``target``, ``reference`` float32 [64, 32]; ``coverage`` float32 [64]; ``clip_ids``
        int64 [24]; ``t5_ids`` int64 [16]; ``text_only`` bool [], the same for a whole batch."""
        rng = numpy_rng("generator sample", index)
        step = index // self.settings.batch_size
        individual = rng.integers(len(self.pool.names))
        reference, target = rng.integers(REFERENCES), rng.integers(TARGETS)
        if "colour" not in self.pool.looks[individual][target]:  # recolouring is learnt last
            target = rng.integers(TARGETS)
        careless = step >= self.careless_from
        if careless and "scene" in self.pool.looks[individual][target]:  # see MADE_UP_SCENE
            target = rng.integers(TARGETS)
        prompt = self.prompt(int(individual), int(target), careless, rng)
        return {
            "target": self.pool.targets[individual, target].float(),
            "reference": self.pool.references[individual, reference].float(),
            "coverage": self.pool.weights[individual, target].float(),
            "clip_ids": token_ids(self.clip, prompt),
            "t5_ids": token_ids(self.t5, prompt),
            "text_only": torch.tensor(self.is_text_only(step)),
        }

    @staticmethod
    def is_text_only(step: int) -> bool:
        """Whether the batch of a step has no references."""
        return step % TEXT_ONLY_EVERY == TEXT_ONLY_EVERY - 1

    @property
    def careless_from(self) -> float:
        """The step at which captions become noisy."""
        return self.settings.noisy_from * self.settings.steps

    def prompt(self, individual: int, target: int, careless: bool, rng: np.random.Generator) -> str:
        """A random caption of a target: none, of another name, or (`careless`) a noisy one."""
        if rng.random() < EMPTY_PROMPT_SHARE:
            return ""
        name = self.pool.names[individual]
        if rng.random() < WRONG_NAME_SHARE:
            names = training_names()
            name = names[rng.integers(len(names))]
        look = self.pool.looks[individual][target]
        if careless:
            look = noisy(look, rng)
        return write_prompt(name, look, rng)


def noisy(look: Mapping[str, str], rng: np.random.Generator) -> dict[str, str]:
    """What a careless caption would say of an image that shows `look`."""
    plain, *drawn = ATTRIBUTES["scene"]
    if look.get("scene", plain) != plain or rng.random() >= MADE_UP_SCENE:
        return dict(look)
    return {**look, "scene": drawn[rng.integers(len(drawn))]}


def token_ids(tokenizer: CLIPTokenizer | T5TokenizerFast, prompt: str) -> Tensor:
    """Prompt → int64 [tokenizer.model_max_length], padded as FluxKontextPipeline pads."""
    encoded = tokenizer(prompt, padding="max_length", truncation=True, return_tensors="pt")
    return encoded.input_ids[0]


def token_weights(coverage: Tensor) -> Tensor:
    """How much each token counts in the loss: the subject more than the rest, and as a whole about
    as much when it is tiny.

    Args:
        coverage: Share of each token that the subject covers, [B, 64] in [0, 1].

    Returns:
        [B, 64], between 1 and 1 + SUBJECT_WEIGHT · MOST_EXTRA.
    """
    covered = coverage.sum(dim=1, keepdim=True).clamp(min=1.0)
    smallness = (USUAL_COVERAGE / covered).clamp(1.0, MOST_EXTRA)
    return 1.0 + SUBJECT_WEIGHT * smallness * coverage


class FlowMatchingLoss:
    """Squared velocity error at a random noise level, the subject weighted up."""

    def __init__(self, model: nano.NanoGenerator) -> None:
        self.model = model

    def __call__(
        self, batch: Batch, generator: torch.Generator
    ) -> tuple[Tensor, Mapping[str, Tensor]]:
        image = batch["target"]
        noise = torch.randn(image.shape, generator=generator, device=image.device)
        normal = torch.randn(len(image), generator=generator, device=image.device)
        level = torch.sigmoid(LEVEL_SPREAD * normal + LEVEL_CENTRE)
        sigma = level[:, None, None]
        reference = None if bool(batch["text_only"][0]) else batch["reference"]
        velocity = self.model.velocity(
            (1 - sigma) * image + sigma * noise,
            reference,
            level,
            batch["clip_ids"],
            batch["t5_ids"],
        )
        error = (velocity.float() - (noise - image)).square().mean(dim=-1)
        weight = token_weights(batch["coverage"])
        loss = (weight * error).sum() / weight.sum()
        return loss, {"mse": error.mean()}
