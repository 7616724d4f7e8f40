"""PickScore equals transformers and PIL, written out."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from test_clip import direct_cosines
from tiny_encoders import IMAGES, TASKS
from transformers import CLIPModel, CLIPProcessor

from likewise.rewards.clip import ClipReward
from likewise.rewards.pickscore import PickScoreReward


@pytest.fixture(scope="module")
def tuned(encoders: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model alone, as PickScore is published: another scale than CLIP's, and no processor."""
    folder = tmp_path_factory.mktemp("pickscore")
    model = CLIPModel.from_pretrained(encoders / "clip")
    model.logit_scale.data.fill_(4.5)
    model.save_pretrained(folder)
    return folder


def test_pickscore_equals_the_direct_computation(encoders: Path, tuned: Path) -> None:
    values, valid = PickScoreReward(tuned, encoders / "clip").score(IMAGES, TASKS)
    model = CLIPModel.from_pretrained(tuned)
    scale = model.logit_scale.double().exp().item()
    assert scale == pytest.approx(90.017, abs=1e-3)
    direct = torch.tensor(direct_cosines(encoders / "clip"), dtype=torch.float64)
    # float32 cosines are good to about 3e-7, whatever they are multiplied by.
    torch.testing.assert_close(values.double() / scale, direct, atol=1e-6, rtol=0)
    assert valid.all() and values.std() > 1
    untuned = PickScoreReward(encoders / "clip")  # of a smaller scale, 14.3
    direct *= CLIPModel.from_pretrained(encoders / "clip").logit_scale.double().exp().item()
    close = untuned.score(IMAGES, TASKS)[0].double()
    torch.testing.assert_close(close, direct, atol=1e-5, rtol=0)


def test_pickscore_is_the_models_own_logit(encoders: Path, tuned: Path) -> None:
    model = CLIPModel.from_pretrained(tuned).eval()
    processor = CLIPProcessor.from_pretrained(encoders / "clip")
    values, _ = PickScoreReward(tuned, encoders / "clip").score(IMAGES, TASKS)
    for image, one, value in zip(IMAGES, TASKS, values, strict=True):
        inputs = processor(
            text=[one.prompt],
            images=[image],
            padding=True,
            truncation=True,
            max_length=77,
            return_tensors="pt",
        )
        with torch.no_grad():
            logit = model(**inputs).logits_per_image[0, 0]
        torch.testing.assert_close(value / 90, logit / 90, atol=1e-6, rtol=0)


def test_the_models_own_processor_is_the_default(encoders: Path) -> None:
    reward, cosines = PickScoreReward(encoders / "clip"), ClipReward(encoders / "clip")
    expected = cosines.score(IMAGES, TASKS)[0] * reward.scale
    assert torch.equal(reward.score(IMAGES, TASKS)[0], expected)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_near_and_answers_in_float32(dtype: torch.dtype, encoders: Path) -> None:
    whole = PickScoreReward(encoders / "clip")
    half = PickScoreReward(encoders / "clip", dtype=dtype)
    assert half.model.dtype == dtype
    values, _ = half.score(IMAGES, TASKS)
    assert values.dtype == torch.float32
    torch.testing.assert_close(
        values, whole.score(IMAGES, TASKS)[0], atol=0.05 * whole.scale, rtol=0
    )
