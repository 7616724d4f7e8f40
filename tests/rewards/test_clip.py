"""CLIP-T and CLIP-I equal transformers and PIL, written out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from tiny_encoders import IMAGES, PROMPTS, SIDE, TASKS, cosine, cropped, normalised, resized
from transformers import AutoTokenizer, CLIPModel

from likewise.rewards.clip import ClipI, ClipReward

OPENAI = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))


@torch.no_grad()
def direct_image(model: CLIPModel, image: Image.Image) -> np.ndarray:
    pixels = normalised(cropped(resized(image, SIDE, Image.Resampling.BICUBIC)), *OPENAI)
    pooled = model.vision_model(pixel_values=pixels).pooler_output
    return model.visual_projection(pooled)[0].numpy()


@torch.no_grad()
def direct_text(model: CLIPModel, folder: Path, prompt: str) -> np.ndarray:
    """Of one prompt alone, with nothing added to its length."""
    tokens = torch.tensor([AutoTokenizer.from_pretrained(folder)(prompt).input_ids])
    hidden = model.text_model(input_ids=tokens).last_hidden_state
    return model.text_projection(hidden[0, -1]).numpy()  # of the last token, which ends the text


def direct_cosines(folder: Path) -> list[float]:
    model = CLIPModel.from_pretrained(folder).eval()
    texts = {prompt: direct_text(model, folder, prompt) for prompt in PROMPTS}
    pairs = zip(IMAGES, TASKS, strict=True)
    return [cosine(direct_image(model, image), texts[one.prompt]) for image, one in pairs]


def test_image_and_text_equal_the_direct_computation(encoders: Path) -> None:
    values, valid = ClipReward(encoders / "clip").score(IMAGES, TASKS)
    direct = torch.tensor(direct_cosines(encoders / "clip"))
    torch.testing.assert_close(values, direct, atol=1e-5, rtol=0)
    assert valid.all() and values.std() > 0.05  # images and prompts do differ to the model


def test_image_and_image_equal_the_direct_computation(encoders: Path) -> None:
    values, valid = ClipI(encoders / "clip").score(IMAGES, TASKS)
    model = CLIPModel.from_pretrained(encoders / "clip").eval()
    direct = [
        cosine(direct_image(model, image), direct_image(model, one.reference))
        for image, one in zip(IMAGES, TASKS, strict=True)
    ]
    torch.testing.assert_close(values, torch.tensor(direct), atol=1e-5, rtol=0)
    assert valid.all() and values.std() > 0.02


def test_clip_is_the_cosine_of_its_two_embeddings(encoders: Path) -> None:
    reward = ClipReward(encoders / "clip")
    images, texts = reward.embed_images(IMAGES[:3]), reward.embed_texts(PROMPTS)
    cosines = torch.nn.functional.cosine_similarity(images, texts)
    torch.testing.assert_close(reward.score(IMAGES[:3], TASKS[:3])[0], cosines)
    assert reward.embed_texts(["a duck " * 50]).shape == (1, 8)  # cut, not refused
