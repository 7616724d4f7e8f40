"""Drawing with the policy is drawing with the stock pipeline, in every bit."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers.pipelines.flux import pipeline_flux_kontext
from torch import Tensor

from likewise import protocols
from likewise.algorithm.transitions import ode
from likewise.policies.flux_kontext import FluxKontextPolicy
from likewise.types import Task

STEPS, SEED = 4, 11
DYNAMIC = {"use_dynamic_shifting": True, "base_shift": 0.4, "max_shift": 1.3, "shift": 1.0}


@torch.no_grad()
def drawn(policy: FluxKontextPolicy, task: Task) -> Tensor:
    condition = policy.encode([task])
    x = policy.initial_noise([SEED])
    sigmas = policy.sigmas(STEPS, None)
    for sigma, sigma_next in pairwise(sigmas):
        x, _ = ode(x, policy.velocity(x, sigma, condition), sigma, sigma_next)
    return x


def stock(policy: FluxKontextPolicy, task: Task, output: str, **options: Any) -> Any:
    """What ``FluxKontextPipeline.__call__`` draws from the same seed."""
    height, width = 16, 24
    result = policy.pipeline(
        image=task.reference,
        prompt=task.prompt,
        height=height,
        width=width,
        max_area=height * width,
        num_inference_steps=STEPS,
        generator=torch.Generator().manual_seed(SEED),
        max_sequence_length=8,
        output_type=output,
        **{"_auto_resize": False, **options},
    )
    return result.images


@pytest.mark.parametrize(
    ("build", "call"),
    [
        ({}, {}),
        ({"scheduler": DYNAMIC}, {}),
        ({"scheduler": {"shift": 2.0, "shift_terminal": 0.05}}, {}),
        ({"guidance_embeds": True, "guidance": 2.5}, {"guidance_scale": 2.5}),
        (
            {"true_cfg_scale": 3.0, "negative_prompt": "blue snow"},
            {"true_cfg_scale": 3.0, "negative_prompt": "blue snow"},
        ),
        (
            {"guidance_embeds": True, "true_cfg_scale": 2.0, "scheduler": DYNAMIC},
            {"true_cfg_scale": 2.0, "negative_prompt": ""},
        ),
    ],
    ids=["static", "dynamic", "terminal", "embedded guidance", "true cfg", "everything"],
)
def test_the_ode_sampler_is_the_stock_pipeline(make_policy, task, build, call) -> None:
    policy = make_policy(**build)
    subject = task("a red duck in the snow")
    ours = drawn(policy, subject)
    assert torch.equal(ours, stock(policy, subject, "latent", **call))
    pixels = policy.decode(ours)[0].permute(1, 2, 0).numpy()
    expected = np.asarray(stock(policy, subject, "pil", **call)[0])
    assert np.array_equal((pixels * 255).round().astype(np.uint8), expected)
    assert expected.shape == (16, 24, 3)
    assert expected.std() > 1  # a flat image would compare nothing


def test_auto_resize_follows_the_preferred_resolutions(
    make_policy, task, image, monkeypatch
) -> None:
    small = [(12, 36), (20, 20), (38, 12)]  # width, height; 38 is rounded down to 36
    monkeypatch.setattr(pipeline_flux_kontext, "PREFERRED_KONTEXT_RESOLUTIONS", small)
    policy = make_policy(auto_resize=True)
    subject = task(reference=image(17, 50))
    (reference,) = policy.encode([subject]).tasks[0].references
    assert reference["tokens"].shape[:2] == (3, 9)
    assert torch.equal(drawn(policy, subject), stock(policy, subject, "latent", _auto_resize=True))


def test_bfloat16_stays_close_to_stock(make_policy, task) -> None:
    policy = make_policy(torch.bfloat16)
    ours, theirs = drawn(policy, task()), stock(policy, task(), "latent").float()
    assert ours.dtype == torch.float32
    # Stock draws the noise in bfloat16 and rounds after each step; only sizes can be compared.
    assert torch.allclose(ours.std(), theirs.std(), rtol=0.5)
    x = policy.initial_noise([SEED])
    with torch.no_grad():
        v = policy.velocity(x, 0.7, policy.encode([task()]))
        exact = make_policy().velocity(x, 0.7, make_policy().encode([task()]))
    assert (v - exact).norm() / exact.norm() < 0.05


def test_batched_cfg_equals_two_forwards(make_policy, task) -> None:
    one, two = (make_policy(true_cfg_scale=2.5, batched_cfg=batched) for batched in (False, True))
    x = one.initial_noise([1, 2])
    tasks = [task("a red duck"), task("a blue teapot")]
    with torch.no_grad():
        difference = one.velocity(x, 0.4, one.encode(tasks)) - two.velocity(
            x, 0.4, two.encode(tasks)
        )
    assert difference.abs().max() < 1e-5


def test_guidance_is_refused_by_a_model_without_that_input(make_policy) -> None:
    make_policy(guidance=3.5)  # the default, which nobody chose
    for guidance in (0.0, 1.0, 3.6):
        with pytest.raises(
            ValueError, match=rf"policy\.guidance {guidance:g} has no effect on this"
        ):
            make_policy(guidance=guidance)


def test_guidance_and_cfg_change_the_velocity(make_policy, task) -> None:
    def velocity(**options: Any) -> Tensor:
        policy = make_policy(guidance_embeds=True, **options)
        with torch.no_grad():
            return policy.velocity(policy.initial_noise([1]), 0.5, policy.encode([task()]))

    plain = velocity()
    assert not torch.equal(plain, velocity(guidance=1.0))
    assert not torch.equal(plain, velocity(true_cfg_scale=2.0))


def test_a_saved_directory_draws_the_same(make_policy, task, tmp_path: Path) -> None:
    policy = make_policy()
    policy.pipeline.save_pretrained(tmp_path)
    loaded = FluxKontextPolicy.from_pretrained(tmp_path, height=16, width=24, max_sequence_length=8)
    assert torch.equal(drawn(policy, task()), drawn(loaded, task()))
    half = FluxKontextPolicy.from_pretrained(
        tmp_path, dtype=torch.bfloat16, height=16, width=24, true_cfg_scale=2.0
    )
    assert half.dtype == half.pipeline.vae.dtype == torch.bfloat16


def test_another_pipeline_is_refused(make_policy, tmp_path: Path) -> None:
    make_policy().pipeline.save_pretrained(tmp_path)
    index = tmp_path / "model_index.json"
    index.write_text(index.read_text().replace('"FluxKontextPipeline"', '"FluxPipeline"'))
    with pytest.raises(ValueError, match="is a FluxPipeline"):
        FluxKontextPolicy.from_pretrained(tmp_path, height=16, width=24)


def test_it_is_a_policy(make_policy, task) -> None:
    policy = make_policy()
    assert isinstance(policy, protocols.Policy)
    assert isinstance(policy.encode([task()]), protocols.Condition)
    assert policy.parameterization == "flow"
