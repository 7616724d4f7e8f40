"""Qwen-Image-Edit: what only this policy has, against the stock pipeline and by hand."""

from __future__ import annotations

import shutil
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from policies.families import qwen_image_edit as family
from torch import Tensor

from likewise.algorithm.transitions import ode
from likewise.policies.flux_kontext import FluxKontextPolicy
from likewise.policies.qwen.sizes import fitted, image_tokens, text_tokens
from likewise.policies.qwen_image_edit import QwenImageEditPolicy
from likewise.types import Task

STEPS, SEED = 3, 11
TALL, WIDE = (21, 14), (12, 30)  # at the tiny area 64×32 and 32×64


def a_task(prompt: str = "a red duck", *sizes: tuple[int, int]) -> Task:
    photos = [tiny.photo(*size, seed) for seed, size in enumerate(sizes or [TALL])]
    return replace(tiny.a_task(prompt, photos[0]), more_references=tuple(photos[1:]))


@torch.no_grad()
def drawn(policy: QwenImageEditPolicy, task: Task) -> Tensor:
    condition = policy.encode([task])
    x = policy.initial_noise([SEED])
    for sigma, sigma_next in pairwise(policy.sigmas(STEPS, None)):
        x, _ = ode(x, policy.velocity(x, sigma, condition), sigma, sigma_next)
    return x


@pytest.mark.parametrize(
    ("sizes", "options", "zero_cond_t"),
    [
        ([TALL], {}, False),
        ([TALL, WIDE], {}, True),
        ([WIDE, TALL], {"true_cfg_scale": 1.0}, False),
        ([TALL, WIDE, (20, 20)], {"negative_prompt": "blue snow"}, False),
    ],
    ids=["one", "two, as 2511", "two, no guidance", "three"],
)
def test_the_ode_sampler_is_the_stock_pipeline(sizes, options, zero_cond_t) -> None:
    pipeline = family.tiny_pipeline(zero_cond_t)
    policy = family.make_policy(pipeline=pipeline, **options)
    task = a_task("a red duck in the snow", *sizes)
    ours = drawn(policy, task)
    assert torch.equal(ours, family.stock(policy, task, STEPS, SEED))
    pixels = policy.decode(ours)[0].permute(1, 2, 0).numpy()
    assert np.array_equal(pixels, family.stock(policy, task, STEPS, SEED, output_type="np")[0])


@torch.no_grad()
def test_the_text_encoder_places_images_in_two_dimensions() -> None:
    plain = family.tiny_pipeline()
    marked = family.make_policy(pipeline=family.tiny_pipeline()).pipeline.text_encoder
    encoder, image = plain.text_encoder, plain.text_encoder.config.image_token_id
    tokens = torch.tensor([[1, 2, *[image] * 4, 3]])  # an image of 4×4 patches, in pairs
    generator = torch.Generator().manual_seed(0)
    patch = 3 * encoder.config.vision_config.temporal_patch_size
    patch *= encoder.config.vision_config.patch_size**2
    given = {
        "input_ids": tokens,
        "attention_mask": torch.ones_like(tokens),
        "pixel_values": torch.randn(16, patch, generator=generator),
        "image_grid_thw": torch.tensor([[1, 4, 4]]),
    }
    in_a_line = encoder(**given).logits
    told = encoder(**given, mm_token_type_ids=(tokens == image).int()).logits
    assert (in_a_line - told).abs().max() > 1e-3
    assert torch.equal(marked(**given).logits, told)


@torch.no_grad()
def test_every_reference_counts_in_text_and_tokens() -> None:
    policy = family.make_policy(true_cfg_scale=1.0)
    noise = policy.initial_noise([1])

    def velocity(task: Task) -> Tensor:
        return policy.velocity(noise, 0.6, policy.encode([task]))

    task = a_task("a red duck", TALL, TALL)
    first, second = task.references
    swapped = replace(task, reference=second, more_references=(first,))
    single = replace(task, more_references=())
    base, others = velocity(task), [velocity(swapped), velocity(single)]
    assert all((base - other).abs().max() > 1e-3 for other in others)
    texts = [policy.encode([one]).tasks[0].text["states"] for one in (task, swapped)]
    assert texts[0].shape == texts[1].shape
    assert not torch.equal(*texts)


def test_the_negative_prompt_goes_with_each_tasks_references() -> None:
    tasks = family.make_policy().encode([a_task(), a_task("a red duck", TALL, WIDE)]).tasks
    negative = [encoded.negative["states"] for encoded in tasks]
    assert [len(one) for one in negative] == [len(encoded.text["states"]) - 2 for encoded in tasks]
    assert len(negative[0]) < len(negative[1])
    assert torch.equal(negative[0][:6], negative[1][:6])  # "Picture 1: ", and its start


@pytest.mark.parametrize("sizes", [[TALL], [TALL, WIDE], [(300, 90), (40, 40), (64, 64)]])
def test_a_blank_task_has_the_shapes_of_an_encoded_one(sizes) -> None:
    policy = family.make_policy(torch.bfloat16)
    encoded = policy.encode([a_task("a red duck in the snow", *sizes)]).tasks[0]
    blank = policy.blank_task(sizes, prompt_tokens=6)
    assert blank.shapes == encoded.shapes
    assert blank.text["states"].dtype == encoded.text["states"].dtype == torch.bfloat16
    assert blank.references[0]["tokens"].dtype == encoded.references[0]["tokens"].dtype
    assert family.make_policy(true_cfg_scale=1.0).blank_task(sizes).negative is None


def test_a_blank_task_needs_no_encoders() -> None:
    pipeline = family.tiny_pipeline()
    with_them = family.make_policy(pipeline=pipeline).blank_task([TALL])
    pipeline.text_encoder = pipeline.tokenizer = pipeline.processor = None
    assert family.make_policy(pipeline=pipeline).blank_task([TALL]).shapes == with_them.shapes


def test_published_sizes() -> None:
    assert fitted((512, 512), 1024**2) == (1024, 1024)
    assert fitted((1200, 800), 1024**2) == (1248, 832)  # 1254.2×836.1 to the nearest 32
    assert image_tokens((384, 384), None) == 14 * 14  # of 28×28 pixels
    assert text_tokens([(384, 384)] * 2, 10, None) == 5 + 2 * (7 + 196) + 10


def test_guidance_keeps_the_norm_of_each_token() -> None:
    policy = family.make_policy(true_cfg_scale=2.0)
    positive = torch.tensor([[[3.0, 4.0], [0.0, 2.0]]])
    negative = torch.tensor([[[6.0, 4.0], [1.0, 2.0]]])
    # v⁻ + 2·(v⁺ − v⁻) = (0, 4) and (−1, 2), of norms 4 and √5; v⁺ has 5 and 2.
    wanted = torch.tensor([[[0.0, 5.0], [-2 / 5**0.5, 4 / 5**0.5]]])
    assert torch.allclose(policy.combine(positive, negative), wanted)
    assert torch.allclose(policy.combine(positive, positive), positive)


def test_presets_adapt_the_blocks_and_nothing_else() -> None:
    def adapted(targets: str) -> set[str]:
        policy = family.make_policy()
        policy.add_lora(2, 4, targets)
        names = (name for name, p in policy.denoiser.named_parameters() if p.requires_grad)
        return {name.split(".lora_")[0] for name in names}

    attention, everything = adapted("attention"), adapted("all")
    assert len(attention) == 2 * 8  # two blocks: four projections in each of two streams
    assert len(everything - attention) == 2 * 4
    assert attention < everything
    assert all(name.startswith("transformer_blocks.") for name in everything)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("qwen")
    family.tiny_pipeline().save_pretrained(folder)
    return folder


def test_loads_without_torchvision_from_the_published_layout(saved: Path, tmp_path: Path) -> None:
    folder = tmp_path / "published"
    shutil.copytree(saved, folder)
    processor = family.make_policy().pipeline.processor
    (folder / "processor" / "processor_config.json").unlink()  # newer than the published files
    processor.image_processor.save_pretrained(folder / "processor")
    options = {"reference_area": family.AREA, "condition_area": family.AREA}
    policy = QwenImageEditPolicy.from_pretrained(
        folder, height=family.HEIGHT, width=family.WIDTH, **options
    )
    ours, theirs = (p.encode([a_task()]).tasks[0] for p in (policy, family.make_policy()))
    assert torch.equal(ours.text["states"], theirs.text["states"])
    assert torch.equal(ours.references[0]["tokens"], theirs.references[0]["tokens"])
    assert '"Qwen2VLProcessor"' in (saved / "model_index.json").read_text()


def test_another_pipeline_and_missing_parts_are_named(saved: Path, tmp_path: Path) -> None:
    tiny.tiny_pipeline().save_pretrained(tmp_path / "flux")
    with pytest.raises(ValueError, match="FluxKontextPipeline, not a QwenImageEditPlusPipeline"):
        QwenImageEditPolicy.from_pretrained(tmp_path / "flux", height=16, width=24)
    with pytest.raises(ValueError, match="QwenImageEditPlusPipeline, not a FluxKontext"):
        FluxKontextPolicy.from_pretrained(saved, height=16, width=24)
    shutil.copytree(saved, tmp_path / "broken")
    shutil.rmtree(tmp_path / "broken" / "processor")
    with pytest.raises(ValueError, match="no sub-folder 'processor'"):
        QwenImageEditPolicy.from_pretrained(tmp_path / "broken", height=16, width=24)


def test_bad_tasks_and_settings_are_named() -> None:
    policy = family.make_policy()
    with pytest.raises(ValueError, match=r"'a red duck!'.*400×8 pixels is too long.*area of 2048"):
        policy.encode([a_task("a red duck", (8, 400))])
    with pytest.raises(ValueError, match="has 4 references; this policy takes 3"):
        policy.encode([a_task("a red duck", *[TALL] * 4)])
    cases: tuple[tuple[dict[str, Any], str], ...] = (
        ({"height": 20}, "multiples of 8, not 20 and 24"),
        ({"reference_area": 1000}, "reference_area must be at least 1024 pixels, not 1000"),
        ({"condition_area": 0}, "condition_area must be at least 1024 pixels, not 0"),
        ({"true_cfg_scale": 0.5}, "true_cfg_scale must be at least 1"),
    )
    for options, message in cases:
        with pytest.raises(ValueError, match=message):
            QwenImageEditPolicy(policy.pipeline, **{"height": 16, "width": 24, **options})
