"""HPSv3's network: Qwen2-VL (2409.12191) and a small head on one token's last hidden state.

The published model reads its tokens in a line: the reference code (``hpsv3`` 1.0.0, which pins
transformers 4.45.2) hands the language model embeddings and nothing else, so that the positions of
all three axes of M-RoPE are 0, 1, 2, …, images included. Its later version for transformers
≥ 4.52 does the same; a plain forward of today's transformers would place images in two
dimensions. The reference also casts the whole model to bfloat16, rotary frequencies included,
before training as before scoring, which puts angles at position 900 off by as much as a radian.
Both belong to what the weights learnt, and are kept. What is not: in bfloat16 the reference rounds
the angles within an image once more, which changes less than computing in bfloat16 does.
"""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor, nn
from transformers import Qwen2VLConfig, Qwen2VLModel

from likewise.pretrained.errors import ModelError, loading
from likewise.pretrained.models import load_config as load_any
from likewise.pretrained.weights import check_counts, tensor_shapes
from likewise.rewards.hps.tensor_names import UNUSED, Shape, our_name, placed
from likewise.tensors import check_finite

HEAD_WIDTHS = (1024, 16, 2)  # the last two outputs are μ and log σ
VISION_THETA = 10_000.0


class HpsV3Model(nn.Module):
    """Qwen2-VL without its word predictor, and the published head."""

    def __init__(self, config: Qwen2VLConfig) -> None:
        super().__init__()
        hidden, (wide, narrow, outputs) = config.text_config.hidden_size, HEAD_WIDTHS
        self.backbone = Qwen2VLModel(config)
        self.rm_head = nn.Sequential(
            nn.Linear(hidden, wide),
            nn.ReLU(),
            nn.Dropout(0.05),
            nn.Linear(wide, narrow),
            nn.ReLU(),
            nn.Linear(narrow, outputs),
        )

    def forward(self, reward_token: int, input_ids: Tensor, **inputs: Tensor) -> Tensor:
        """μ and log σ, float32 [B, 2], read at the one `reward_token` of each of [B, L] ids."""
        line = torch.arange(input_ids.shape[1], device=input_ids.device)
        hidden = self.backbone(
            input_ids=input_ids,
            position_ids=line.expand(3, *input_ids.shape),
            use_cache=False,
            **inputs,
        ).last_hidden_state
        return self.rm_head(hidden[input_ids == reward_token].float())


def load_config(base: str | Path, vocabulary: int) -> Qwen2VLConfig:
    """Configuration of a Qwen2-VL whose embedding has `vocabulary` rows.

    Raises:
        ValueError: `base` is not a Qwen2-VL, or has stretched rotary embeddings.
        OSError: there is no such base (the message is transformers').
    """
    config = load_any(base)
    if not isinstance(config, Qwen2VLConfig):
        raise ValueError(f"base: {base} is a {config.model_type}, not a qwen2_vl")
    if config.text_config.rope_parameters["rope_type"] != "default":
        raise ValueError(f"base: {base} has rotary embeddings that HPSv3 was not trained with")
    config.text_config.vocab_size = vocabulary
    return config


def load_model(
    file: Path, config: Qwen2VLConfig, dtype: torch.dtype, device: torch.device
) -> HpsV3Model:
    """The model of a checkpoint, frozen; the head in float32 whatever `dtype` is.

    Tensors are read one by one and no other weights are ever made, so that loading needs no more
    memory than the model in `dtype`.

    Raises:
        ValueError: the file is not a safetensors file, does not fit, or holds values that are not
            finite; tensors are named.
    """
    try:
        found = tensor_shapes(file)
        check_counts(config.to_dict(), len(found), Path("the base's config.json"))
        with loading("the base's config.json: the model that it describes"):
            model = empty_model(config)
    except ModelError as error:
        raise ValueError(f"model: {error}") from error
    names = placed(found, expected_shapes(model), file)
    with safe_open(file, framework="pt") as tensors:
        weights = {
            name: tensors.get_tensor(key).to(device, _kept_in(name, dtype))
            for name, key in names.items()
            if name != UNUSED
        }
    check_finite(weights, f"model: {file}")
    model.load_state_dict(weights, assign=True)
    restore_frequencies(model, config, device)
    return model.requires_grad_(False).eval()


def empty_model(config: Qwen2VLConfig) -> HpsV3Model:
    """The model without weights: everything on the meta device."""
    with torch.device("meta"):
        return HpsV3Model(config)


def expected_shapes(model: HpsV3Model) -> dict[str, Shape]:
    """Shape of everything that a checkpoint must hold, by our names."""
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    return {**shapes, UNUSED: shapes[our_name("model.embed_tokens.weight")]}


def restore_frequencies(model: HpsV3Model, config: Qwen2VLConfig, device: torch.device) -> None:
    """Make the rotary frequencies, which no checkpoint holds; rounded as the module's text says."""
    text, vision = config.text_config, config.vision_config
    theta, width = text.rope_parameters["rope_theta"], text.hidden_size // text.num_attention_heads
    _fill(model.backbone.language_model, rotary_frequencies(theta, width).to(device))
    width = vision.embed_dim // vision.num_heads // 2  # half a head for rows, half for columns
    _fill(model.backbone.visual, rotary_frequencies(VISION_THETA, width).to(device))


def rotary_frequencies(theta: float, width: int) -> Tensor:
    """θ^(-2i / width) for i below width / 2, float32 with values of bfloat16."""
    powers = torch.arange(0, width, 2, dtype=torch.float32) / width
    return (1.0 / theta**powers).bfloat16().float()


def _fill(part: nn.Module, frequencies: Tensor) -> None:
    for path, buffer in list(part.named_buffers()):
        module, name = part.get_submodule(path.rpartition(".")[0]), path.rpartition(".")[2]
        if not name.endswith("inv_freq") or buffer.shape != frequencies.shape:
            raise ValueError(f"this version of transformers has an unknown buffer, {path}")
        setattr(module, name, frequencies.clone())


def _kept_in(name: str, dtype: torch.dtype) -> torch.dtype:
    return torch.float32 if name.startswith("rm_head.") else dtype
