"""FLUX.2 klein is the stock pipeline in what is its own: references, ids, guidance, schedule."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import tiny
import torch
from policies.families.flux2_klein import (
    HEIGHT,
    TEXT_LENGTH,
    WIDTH,
    make_policy,
    stock,
    tiny_pipeline,
)
from torch import Tensor

from likewise.algorithm.transitions import ode
from likewise.policies.common.encoded import EncodedBatch, EncodedTask
from likewise.policies.flux2_klein import Flux2KleinPolicy, position_ids
from likewise.types import Task

STEPS, SEED = 3, 11
SIZES = [(64, 83), (100, 70)]  # are cropped to 64×80 and 96×64


def subject(references: int = 2, **changes: object) -> Task:
    first, *more = (tiny.photo(*size, seed) for seed, size in enumerate(SIZES[:references]))
    task = tiny.a_task("a red duck in the snow", first)
    return replace(task, **{"more_references": tuple(more), **changes})


@torch.no_grad()
def drawn(policy: Flux2KleinPolicy, condition: EncodedBatch, steps: int = STEPS) -> Tensor:
    x = policy.initial_noise([SEED])
    for sigma, sigma_next in pairwise(policy.sigmas(steps, None)):
        x, _ = ode(x, policy.velocity(x, sigma, condition), sigma, sigma_next)
    return x


LAST_BITS = {"atol": 2e-6, "rtol": 2e-6}  # equal on most CPUs; kernels of others differ by memory


@pytest.mark.parametrize("scale", [1.0, 4.0])
def test_no_one_and_two_references_draw_as_stock(scale) -> None:
    policy = make_policy(true_cfg_scale=scale)
    for count in (1, 2):
        task = subject(count)
        latents = drawn(policy, policy.encode([task]))
        torch.testing.assert_close(latents, stock(policy, task, STEPS, SEED), **LAST_BITS)
    encoded = policy.encode([task]).tasks[0]
    without = drawn(policy, EncodedBatch((EncodedTask(encoded.text, (), encoded.negative),)))
    wanted = stock(policy, task, STEPS, SEED, image=None)
    torch.testing.assert_close(without, wanted, **LAST_BITS)
    assert (without - latents).abs().max() > 0.01


def test_images_are_those_of_stock() -> None:
    policy, task = make_policy(), subject()
    pixels = policy.decode(drawn(policy, policy.encode([task])))[0].permute(1, 2, 0).numpy()
    expected = np.asarray(
        policy.pipeline(
            image=list(task.references),
            prompt=task.prompt,
            height=HEIGHT,
            width=WIDTH,
            num_inference_steps=STEPS,
            generator=torch.Generator().manual_seed(SEED),
            max_sequence_length=TEXT_LENGTH,
        ).images[0]
    )
    assert np.array_equal((pixels * 255).round().astype(np.uint8), expected)
    assert expected.std() > 1  # a flat image would compare nothing


@pytest.mark.parametrize(
    "scheduler", [{"shift": 2.0}, {"use_dynamic_shifting": True, "shift_terminal": 0.05}]
)
def test_the_schedule_is_the_schedulers_own(scheduler) -> None:
    policy = make_policy(pipeline=tiny_pipeline(**scheduler), true_cfg_scale=1.0)
    task = subject(1)
    latents = drawn(policy, policy.encode([task]))
    assert len(policy.pipeline.scheduler.timesteps) == 1000  # the pipeline's own is untouched
    assert torch.equal(latents, stock(policy, task, STEPS, SEED))


def test_the_shift_depends_on_the_number_of_steps() -> None:
    # A dynamic shift is e^mu / (e^mu + 1/σ − 1): two steps have σ = 1/2 in the middle.
    policy = make_policy()
    few, many = policy.sigmas(2)[1], policy.sigmas(50)[25]
    assert few > many > 0.5
    assert torch.allclose(policy.sigmas(2, 3.0), torch.tensor([1, 0.75, 0]))
    with pytest.raises(ValueError, match="num_steps"):
        policy.sigmas(0)


def test_another_negative_prompt_is_stocks_negative_embedding() -> None:
    policy = make_policy(negative_prompt="blue snow")
    task = subject(1)
    negative = policy.encode_text("blue snow")["states"][None]
    expected = stock(policy, task, STEPS, SEED, negative_prompt_embeds=negative)
    assert torch.equal(drawn(policy, policy.encode([task])), expected)
    assert not torch.equal(expected, stock(policy, task, STEPS, SEED))


def test_a_megapixel_is_the_largest_reference() -> None:
    policy = make_policy(true_cfg_scale=1.0)
    task = subject(1, reference=tiny.photo(900, 1300))
    condition = policy.encode([task])
    assert condition.tasks[0].references[0]["tokens"].shape == (53, 76, 16)  # 852×1230, cropped
    assert torch.equal(drawn(policy, condition, steps=1), stock(policy, task, 1, SEED))


def test_a_smaller_area_is_a_choice() -> None:
    policy, photo = make_policy(reference_area=80 * 120), tiny.photo(200, 300)
    (small,) = policy.encode_references([photo])
    (expected,) = make_policy().encode_references([photo.resize((120, 80), 1)])  # 1: Lanczos
    assert small["tokens"].shape == (5, 7, 16)
    assert torch.equal(small["tokens"], expected["tokens"])


def test_a_blank_task_has_the_shapes_of_an_encoded_one() -> None:
    sizes = [(64, 83), (900, 1300), (1024, 1024), (130, 1040)]
    for options in ({}, {"true_cfg_scale": 1.0}, {"reference_area": 64**2}):
        policy = make_policy(**options)
        blank = policy.blank_task(sizes[:1])
        encoded = policy.encode([subject(1)]).tasks[0]
        assert blank.shapes == encoded.shapes
        assert (blank.negative is None) == (encoded.negative is None)
    policy.pipeline.text_encoder = policy.pipeline.vae = None  # planning has no encoders
    many = make_policy().blank_task(sizes).references
    grids = [tuple(one["tokens"].shape) for one in many]
    assert grids == [(4, 5, 16), (53, 76, 16), (64, 64, 16), (8, 65, 16)]
    assert policy.blank_task([(200, 300)]).references[0]["tokens"].shape == (3, 4, 16)
    assert make_policy(torch.bfloat16).blank_task([]).text["states"].dtype == torch.bfloat16


def test_positions_of_references_are_ten_apart() -> None:
    seen: list[dict[str, Tensor]] = []
    policy = make_policy(true_cfg_scale=1.0)
    policy.denoiser.register_forward_pre_hook(
        lambda _, __, inputs: seen.append(inputs), with_kwargs=True
    )
    condition = policy.encode([subject()])
    with torch.no_grad():
        policy.velocity(policy.initial_noise([1]), 0.5, condition)
    stock(policy, subject(), 1, SEED)
    ours, theirs = seen
    assert ours["img_ids"][:, 0].unique(return_counts=True)[0].tolist() == [0, 10, 20]
    assert ours["img_ids"].shape == (2 * 3 + 4 * 5 + 6 * 4, 4)
    assert ours["txt_ids"].tolist() == [[0, 0, 0, word] for word in range(TEXT_LENGTH)]
    for name in ("img_ids", "txt_ids"):
        assert torch.equal(ours[name], theirs[name][0].float())
    assert position_ids(10, 300, 1)[257].tolist() == [10, 257, 0, 0]


def test_a_distilled_model_draws_without_guidance() -> None:
    with pytest.raises(ValueError, match=r"distilled.*true_cfg_scale to 1, not 4\.0"):
        make_policy(pipeline=tiny_pipeline(is_distilled=True))
    policy = make_policy(pipeline=tiny_pipeline(is_distilled=True), true_cfg_scale=1.0)
    task = subject(1)
    ours = drawn(policy, policy.encode([task]))
    assert torch.equal(ours, stock(policy, task, STEPS, SEED))
    assert torch.equal(ours, stock(policy, task, STEPS, SEED, guidance_scale=4.0))  # ignored there


@pytest.mark.parametrize(
    ("photo", "message"),
    [
        ((40, 80), r"'a red duck in the snow!': reference 1: .*80×40.*at least 64px"),
        ((64, 600), r"'a red duck in the snow!': reference 1: .*ratio is 8:1"),
    ],
)
def test_references_the_model_does_not_take_are_named(photo, message) -> None:
    with pytest.raises(ValueError, match=message):
        make_policy().encode([subject(1, reference=tiny.photo(*photo))])


def test_bad_settings_are_refused() -> None:
    policy = make_policy()
    with pytest.raises(ValueError, match="reference 2: "):
        policy.encode([subject(1, more_references=(tiny.photo(63, 64),))])
    with pytest.raises(ValueError, match="has 5 references; this policy takes 4"):
        policy.encode([subject(1, more_references=(tiny.photo(64, 64),) * 4)])
    for bad, message in (
        ({"max_sequence_length": 513}, "1 to 512, not 513"),
        ({"true_cfg_scale": 0.5}, "at least 1"),
        ({"reference_area": 4095}, "at least 4096 pixels, not 4095"),
    ):
        with pytest.raises(ValueError, match=message):
            make_policy(**bad)
    with pytest.raises(ValueError, match="multiples of 16, not 40 and 48"):
        Flux2KleinPolicy(policy.pipeline, 40, 48)


def test_lora_presets_cover_both_kinds_of_blocks() -> None:
    attention, everything = make_policy(), make_policy()
    attention.add_lora(2, 4, "attention")
    everything.add_lora(2, 4, "all")
    double = ["to_q", "to_k", "to_v", "to_out.0", "add_q_proj", "add_k_proj", "add_v_proj"]
    expected = {f"transformer_blocks.0.attn.{name}" for name in [*double, "to_add_out"]} | {
        f"single_transformer_blocks.{block}.attn.{name}"
        for block in (0, 1)
        for name in ("to_qkv_mlp_proj", "to_out")
    }
    assert adapted(attention) == expected
    feed_forward = {
        f"transformer_blocks.0.{part}.linear_{way}"
        for part in ("ff", "ff_context")
        for way in ("in", "out")
    }
    assert adapted(everything) == expected | feed_forward


def adapted(policy: Flux2KleinPolicy) -> set[str]:
    names = (name for name, value in policy.denoiser.named_parameters() if value.requires_grad)
    return {name.split(".lora_")[0] for name in names}
