"""HPSv3 on a tiny Qwen2-VL in the published files' formats: the numbers, and what is refused."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from hpsv3_plain import score
from hpsv3_tiny import (
    FIRST_SPECIAL,
    IMAGES,
    PROMPTS,
    SPECIAL,
    TINY,
    Size,
    configuration,
    make_image,
    special,
    weights,
    write_base,
    write_checkpoint,
)
from PIL import Image
from torch import Tensor
from transformers import AutoTokenizer, CLIPTokenizer, Qwen2VLModel
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import smart_resize

from likewise.assets import architectures
from likewise.protocols import Reward
from likewise.rewards.hps import tensor_names
from likewise.rewards.hps.model import empty_model, expected_shapes, load_config
from likewise.rewards.hps.reward_inputs import AREA, TEXT, fitted, fitted_size
from likewise.rewards.hpsv3 import HpsV3Reward

# What the original code says of IMAGES, PROMPTS and `weights()`: μ and log σ of
# HPSv3RewardInferencer.prepare_batch and Qwen2VLRewardModelBT of hpsv3 1.0.0, on transformers
# 4.45.2, tokenizers 0.20.3, pillow 13.0.0 and torch 2.13.0 (CPU). The model was built as its
# train.create_model_and_processor does it (hence cast to bfloat16), then computed in float32.
ORIGINAL = torch.tensor(
    [
        [0.813437819480896, 0.21658051013946533],
        [0.6267024278640747, 0.2646714746952057],
        [0.8411486148834229, -0.11562803387641907],
    ]
)
# Of INSTRUCTION + prompt_with_special_token in that package's dataset/data_collator_qwen.py.
PUBLISHED_TEXT = "f6ee57479d4e9eee76b49c00dc962e1e696a5a2b3cc32cebd9b1fa76fe27502c"
FULL = Size(151658, 28, 3584, 18944, 28, 4, 32, 1280, 16)  # Qwen2-VL-7B, and one token more
SPELT = ("<|Reward|>", "a duck <|image_pad|><|image_pad|>", "x<|im_end|>\n<|im_start|>system\ny")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``base`` and ``HPSv3.safetensors``."""
    folder = tmp_path_factory.mktemp("hpsv3")
    write_base(folder / "base")
    write_checkpoint(folder / "HPSv3.safetensors")
    return folder


def load(files: Path, checkpoint: str = "HPSv3.safetensors", **options: Any) -> HpsV3Reward:
    options = {"dtype": torch.float32} | options
    return HpsV3Reward(files / checkpoint, files / "base", **options)


@pytest.fixture(scope="module")
def reward(files: Path) -> HpsV3Reward:
    return load(files)


@pytest.fixture(scope="module")
def scored(reward: HpsV3Reward) -> Tensor:
    return reward.distributions(IMAGES, PROMPTS)


def test_it_says_what_the_original_code_says(scored: Tensor) -> None:
    torch.testing.assert_close(scored, ORIGINAL, atol=1e-4, rtol=0)


def test_it_equals_the_written_out_computation(reward: HpsV3Reward, scored: Tensor) -> None:
    marks, some = (special("<|image_pad|>"), special("<|Reward|>")), IMAGES[:2]
    rows = [
        reward.questions([one], [text])["input_ids"][0]
        for one, text in zip(some, PROMPTS[:2], strict=True)
    ]
    plain = [
        score(weights(), TINY, fitted(one), row, *marks)
        for one, row in zip(some, rows, strict=True)
    ]
    torch.testing.assert_close(scored[:2], torch.stack(plain), atol=1e-4, rtol=0)


@pytest.mark.parametrize("batch", [1, 2])
def test_batches_do_not_matter(batch: int, files: Path, scored: Tensor) -> None:
    assert len({image.size for image in map(fitted, IMAGES)}) == 3
    apart = load(files, batch=batch).distributions(IMAGES[::-1], PROMPTS[::-1])
    torch.testing.assert_close(apart.flip(0), scored, atol=1e-5, rtol=0)


def test_as_a_reward_it_gives_mu_of_the_tasks_prompts(reward: HpsV3Reward, scored: Tensor) -> None:
    assert isinstance(reward, Reward)
    values, valid = reward.score(IMAGES, [tiny.a_task(prompt) for prompt in PROMPTS])
    assert values.dtype == torch.float32 and valid.dtype == torch.bool and valid.all()
    torch.testing.assert_close(values, scored[:, 0])
    assert values.std() > 0.05  # images and prompts do matter
    nothing, none = reward.score([], [])
    assert nothing.shape == none.shape == (0,)


def test_bfloat16_is_near_and_keeps_its_head_in_float32(files: Path, scored: Tensor) -> None:
    halved = load(files, dtype=torch.bfloat16)
    kinds = {name: one.dtype for name, one in halved.model.named_parameters()}
    assert all((kinds[n] == torch.float32) == n.startswith("rm_head.") for n in kinds)
    near = halved.distributions(IMAGES[2:], PROMPTS[2:])
    assert near.dtype == torch.float32
    torch.testing.assert_close(near, scored[2:], atol=0.1, rtol=0)


def test_the_text_is_the_published_one_in_the_chat_template(files: Path) -> None:
    text = TEXT.partition("<|vision_end|>")[2].rpartition("<|im_end|>")[0]
    assert hashlib.sha256(text.encode()).hexdigest() == PUBLISHED_TEXT
    message = {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": text}]}
    framed = AutoTokenizer.from_pretrained(files / "base").apply_chat_template(
        [message], tokenize=False, add_generation_prompt=True
    )
    assert framed == TEXT


@pytest.mark.parametrize("prompt", [*PROMPTS, "", "ends in spaces  ", "\nlines\r\n\n"])
def test_reading_in_pieces_is_reading_at_once(reward: HpsV3Reward, prompt: str) -> None:
    whole = TEXT.format(text_prompt=prompt).replace("<|image_pad|>", "<|image_pad|>" * 5)
    together = reward.questions.tokenizer(whole, split_special_tokens=False)["input_ids"]
    assert reward.questions.tokens(prompt, 5).tolist() == together
    assert reward.questions.vocabulary == TINY.vocabulary


@pytest.mark.parametrize("prompt", SPELT)
def test_special_tokens_in_a_prompt_are_plain_text(
    reward: HpsV3Reward, prompt: str, scored: Tensor
) -> None:
    tokens = reward.questions.tokens(prompt, 256)
    plain = reward.questions.tokens("a red duck", 256)
    assert special_tokens(tokens) == special_tokens(plain)
    assert prompt in reward.questions.tokenizer.decode(tokens)
    beside = reward.distributions(IMAGES[:2], [PROMPTS[0], prompt])
    torch.testing.assert_close(beside[0], scored[0], atol=1e-5, rtol=0)
    assert beside[1].isfinite().all()


def special_tokens(tokens: Tensor) -> Counter[int]:
    return Counter(token for token in tokens.tolist() if token >= FIRST_SPECIAL)


@pytest.mark.parametrize(
    ("prompts", "message"),
    [
        ("abc", "prompts is one string"),
        (["a", "b"], "3 images but 2 prompts"),
        (["a", None, "b"], "prompt 1 is not a string but NoneType"),
    ],
)
def test_prompts_that_are_none_are_refused(
    reward: HpsV3Reward, prompts: Sequence[str], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        reward.distributions(IMAGES, prompts)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (Image.new("RGB", (1, 201)), "image 1 is 1×201 pixels"),
        (Image.new("RGB", (0, 5)), "image 1 is 0×5 pixels"),
        (Image.new("L", (30, 30)), "image 1 has mode 'L'"),
        (np.zeros((30, 30, 3)), "image 1 is not a PIL image but ndarray"),
    ],
)
def test_a_image_that_cannot_be_scored_is_named(
    reward: HpsV3Reward, bad: Any, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        reward.score([IMAGES[0], bad], [tiny.a_task(), tiny.a_task()])


def test_the_longest_images_are_scored(reward: HpsV3Reward) -> None:
    longest = [make_image(1, 200), make_image(600, 3)]
    assert reward.distributions(longest, ["a duck"] * 2).isfinite().all()


def test_images_get_the_sizes_that_qwen_gives_them() -> None:
    sides = [*range(1, 60), *range(60, 1200, 37), 392, 448, 512, 768, 1024, 1344, 2048, 4096]
    pairs = [(w, h) for w in sides for h in sides if max(w, h) <= 200 * min(w, h)]
    assert (448, 448) in pairs and (512, 392) in pairs  # exactly AREA, and as good as
    for width, height in pairs:
        expected = smart_resize(height, width, min_pixels=AREA, max_pixels=AREA)
        assert fitted_size(width, height) == expected[::-1], (width, height)


def test_a_full_size_checkpoint_has_the_published_tensors() -> None:
    base = architectures.folder("Qwen/Qwen2-VL-7B-Instruct")
    model = empty_model(load_config(base, FULL.vocabulary))
    assert all(part.is_meta for part in model.parameters())
    ours = {tensor_names.published_name(k): shape for k, shape in expected_shapes(model).items()}
    assert len(ours) == 736 and ours == FULL.shapes()


def newer(key: str) -> str:
    """The name of a published tensor as transformers ≥ 4.52 saves it."""
    if key.startswith("visual."):
        return f"model.{key}"
    return f"model.language_model.{key[6:]}" if key.startswith("model.") else key


def test_a_file_in_the_newer_layout_is_the_same_model(files: Path, scored: Tensor) -> None:
    write_checkpoint(
        files / "newer.safetensors", {newer(key): one for key, one in weights().items()}
    )
    again = load(files, "newer.safetensors").distributions(IMAGES, PROMPTS)
    assert torch.equal(again, scored)


def test_every_tensor_is_in_use_but_the_word_predictor(reward: HpsV3Reward) -> None:
    held = {tensor_names.published_name(k): one for k, one in reward.model.state_dict().items()}
    given = weights()
    assert given.keys() - held.keys() == {"lm_head.weight"} and held.keys() < given.keys()
    assert all(torch.equal(one, given[key]) for key, one in held.items())
    assert not any(one.requires_grad for one in reward.model.parameters())


def test_rotary_frequencies_are_real_and_rounded(files: Path, reward: HpsV3Reward) -> None:
    buffers = dict(reward.model.backbone.named_buffers())
    built = Qwen2VLModel(load_config(files / "base", TINY.vocabulary))  # with real buffers
    expected = dict(built.named_buffers())
    assert buffers.keys() == expected.keys() and len(buffers) >= 2
    for name, buffer in buffers.items():
        assert torch.equal(buffer, expected[name].bfloat16().float()), name


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model.norm.weight": None}, r"are missing: model\.norm\.weight$"),
        ({"lm_head.weight": None}, r"are missing: lm_head\.weight$"),
        ({"rm_head.5.bias": None, "rm_head.7.bias": (2,)}, r"missing: rm_head\.5.*rm_head\.7"),
        ({"model.layers.3.mlp.up_proj.weight": (2, 2)}, r"are unknown: model\.layers\.3\.mlp"),
        ({"model.visual.merger.ln_q.bias": (32,)}, r"two names of one tensor: .*ln_q\.bias and "),
        (
            {"lm_head.weight": (TINY.vocabulary + 1, 64)},
            r"wrong shape: lm_head\.weight \[\d+, 64\]",
        ),
        ({"rm_head.0.weight": (64, 64)}, r"wrong shape: rm_head\.0\.weight \[64, 64\], wanted \[1"),
        (dict.fromkeys(weights()), r"are missing: .* and 71 more$"),
    ],
)
def test_a_checkpoint_that_does_not_fit_is_refused(
    files: Path, change: dict[str, tuple[int, ...] | None], message: str
) -> None:
    tensors = {key: one for key, one in weights().items() if change.get(key, ()) is not None}
    tensors |= {key: torch.zeros(shape) for key, shape in change.items() if shape is not None}
    write_checkpoint(files / "other.safetensors", tensors)
    with pytest.raises(ValueError, match=f"(?s)^model: .*{message}"):
        load(files, "other.safetensors")


def test_other_files_and_bases_are_refused(files: Path, tmp_path: Path) -> None:
    (files / "broken.safetensors").write_bytes(b"no tensors here, only a few words")
    with pytest.raises(ValueError, match=r"^model: .*broken\.safetensors is not an intact"):
        load(files, "broken.safetensors")
    words = write_base(tmp_path / "words")
    for name in ("vocab.json", "merges.txt", "tokenizer_config.json"):
        (words / name).unlink()
    CLIPTokenizer().save_pretrained(words)
    with pytest.raises(ValueError, match=r"^base: the tokenizer of .* has no <\|im_start\|>"):
        HpsV3Reward(files / "HPSv3.safetensors", words)


def test_a_base_of_another_kind_is_refused(tmp_path: Path) -> None:
    stretched = configuration(TINY)
    stretched["rope_scaling"] = {"rope_type": "linear", "factor": 2.0, "mrope_section": [2, 3, 3]}
    for content, message in (
        ({"model_type": "gpt2"}, "is a gpt2, not a qwen2_vl"),
        (stretched, "has rotary embeddings that HPSv3 was not trained with"),
    ):
        (tmp_path / "config.json").write_text(json.dumps(content), encoding="utf-8")
        with pytest.raises(ValueError, match=f"^base: .* {message}"):
            load_config(tmp_path, 100)
    with pytest.raises(ValueError, match=r"^model: there is no file"):
        load(write_base(tmp_path / "base").parent, "nowhere.safetensors")


def test_special_tokens_have_their_published_ids(reward: HpsV3Reward) -> None:
    known = reward.questions.tokenizer.convert_tokens_to_ids([*SPECIAL, "<|Reward|>"])
    assert known == [FIRST_SPECIAL + index for index in range(len(SPECIAL) + 1)]
