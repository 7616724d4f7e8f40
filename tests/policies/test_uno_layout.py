"""UNO's sequence: where references stand, and what attention makes of them, written out anew."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from diffusers import FluxTransformer2DModel
from policies.families.flux_uno import FAMILY, LONGEST, policy, tiny_uno
from safetensors.torch import save_file
from tiny import a_task, photo
from torch import Tensor
from torch.nn.functional import gelu, layer_norm, silu

from likewise.algorithm.transitions import ode
from likewise.policies.flux.uno_layout import diagonal_ids, fitted, fitted_size
from likewise.types import Task

SHAPES = [(21, 14), (30, 60)]  # pixels; scaled to 24×16 and 12×24: grids 6×4 and 3×6


@pytest.fixture
def two_references() -> Task:
    first, second = (photo(*size, seed) for seed, size in enumerate(SHAPES))
    return replace(a_task("a red duck on the beach", first), more_references=(second,))


class WrittenOut:
    """UNO's forward in plain torch: FLUX's weights by diffusers' names, a LoRA by UNO's own.

    Attributes:
        weights: Of a FluxTransformer2DModel without UNO.
        heads: Of attention.
        axes: Channels of a head that each position id turns.
    """

    def __init__(self, model: FluxTransformer2DModel, lora: Mapping[str, Tensor]) -> None:
        self.weights = {name: value.clone() for name, value in model.state_dict().items()}
        self.lora = lora
        self.heads: int = model.config.num_attention_heads
        self.axes: tuple[int, ...] = model.config.axes_dims_rope
        self.embed_time = model.time_text_embed

    def __call__(
        self, tokens: Tensor, ids: Tensor, text: Tensor, pooled: Tensor, sigma: float, scale: float
    ) -> Tensor:
        """Velocity at each of [image, references], [1, n, 4C]; ids [n, 3]."""
        self.angles = self.turns(torch.cat([torch.zeros(text.shape[1], 3), ids]))
        time = torch.tensor([1000.0])
        self.time = silu(self.embed_time(time * sigma, time * scale, pooled))
        image, text = self.linear("x_embedder", tokens), self.linear("context_embedder", text)
        for block in range(1):
            image, text = self.double(block, image, text)
        both = torch.cat([text, image], dim=1)
        for block in range(2):
            both = self.single(block, both)
        stretch, shift = self.linear("norm_out.linear", self.time)[:, None].chunk(2, dim=-1)
        image = self.normed(both[:, text.shape[1] :], shift, stretch)
        return self.linear("proj_out", image)

    def double(self, block: int, image: Tensor, text: Tensor) -> tuple[Tensor, Tensor]:
        name, uno = f"transformer_blocks.{block}", f"double_blocks.{block}.processor"
        of_image = self.modulation(f"{name}.norm1.linear", 6)
        of_text = self.modulation(f"{name}.norm1_context.linear", 6)
        parts = {"image": ("to_q", "to_k", "to_v"), "text": [f"add_{one}_proj" for one in "qkv"]}
        x = self.normed(image, *of_image[:2])
        q, k, v = self.heads_of(name, parts["image"], x, f"{uno}.qkv_lora1")
        y = self.normed(text, *of_text[:2])
        q_text, k_text, v_text = self.heads_of(name, parts["text"], y, f"{uno}.qkv_lora2")
        q, k = self.rms(q, f"{name}.attn.norm_q"), self.rms(k, f"{name}.attn.norm_k")
        q_text = self.rms(q_text, f"{name}.attn.norm_added_q")
        k_text = self.rms(k_text, f"{name}.attn.norm_added_k")
        seen = self.attention(
            torch.cat([q_text, q], dim=2),
            torch.cat([k_text, k], dim=2),
            torch.cat([v_text, v], dim=2),
        )
        of_y, of_x = seen[:, : text.shape[1]], seen[:, text.shape[1] :]
        of_x = self.linear(f"{name}.attn.to_out.0", of_x) + self.low(f"{uno}.proj_lora1", of_x)
        of_y = self.linear(f"{name}.attn.to_add_out", of_y) + self.low(f"{uno}.proj_lora2", of_y)
        image, text = image + of_image[2] * of_x, text + of_text[2] * of_y
        image = image + of_image[5] * self.mlp(f"{name}.ff", self.normed(image, *of_image[3:5]))
        hidden = self.mlp(f"{name}.ff_context", self.normed(text, *of_text[3:5]))
        return image, text + of_text[5] * hidden

    def single(self, block: int, x: Tensor) -> Tensor:
        name, uno = f"single_transformer_blocks.{block}", f"single_blocks.{block}.processor"
        shift, stretch, gate = self.modulation(f"{name}.norm.linear", 3)
        y = self.normed(x, shift, stretch)
        q, k, v = self.heads_of(name, ("to_q", "to_k", "to_v"), y, f"{uno}.qkv_lora")
        q, k = self.rms(q, f"{name}.attn.norm_q"), self.rms(k, f"{name}.attn.norm_k")
        hidden = gelu(self.linear(f"{name}.proj_mlp", y), approximate="tanh")
        both = torch.cat([self.attention(q, k, v), hidden], dim=-1)
        return x + gate * (
            self.linear(f"{name}.proj_out", both) + self.low(f"{uno}.proj_lora", both)
        )

    def heads_of(self, block: str, parts, x: Tensor, lora: str) -> list[Tensor]:
        """q, k and v [1, heads, n, D] from one fused layer, the LoRA on the fused output."""
        names = [f"{block}.attn.{part}" for part in parts]
        weight = torch.cat([self.weights[f"{name}.weight"] for name in names])
        bias = torch.cat([self.weights[f"{name}.bias"] for name in names])
        fused = x @ weight.T + bias + self.low(lora, x)
        split = fused.reshape(1, x.shape[1], 3, self.heads, -1)  # output channels run (K, H, D)
        return list(split.permute(2, 0, 3, 1, 4))

    def attention(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        q, k = self.turned(q), self.turned(k)
        weights = (q @ k.transpose(2, 3) / math.sqrt(q.shape[-1])).softmax(dim=-1)
        return (weights @ v).transpose(1, 2).flatten(2)

    def turns(self, ids: Tensor) -> Tensor:
        """Angles [n, D/2] by which each pair of channels is turned."""
        parts = []
        for axis, channels in enumerate(self.axes):
            speeds = 10_000 ** (-torch.arange(0, channels, 2).double() / channels)
            parts.append(ids[:, axis, None].double() * speeds)
        return torch.cat(parts, dim=1)

    def turned(self, x: Tensor) -> Tensor:
        pairs = torch.view_as_complex(x.double().unflatten(-1, (-1, 2)).contiguous())
        turned = pairs * torch.polar(torch.ones_like(self.angles), self.angles)
        return torch.view_as_real(turned).flatten(-2).float()

    def rms(self, x: Tensor, name: str) -> Tensor:
        return (
            x
            / (x.square().mean(dim=-1, keepdim=True) + 1e-6).sqrt()
            * self.weights[f"{name}.weight"]
        )

    def normed(self, x: Tensor, shift: Tensor, stretch: Tensor) -> Tensor:
        return layer_norm(x, x.shape[-1:], eps=1e-6) * (1 + stretch) + shift

    def modulation(self, name: str, parts: int) -> tuple[Tensor, ...]:
        return self.linear(name, self.time)[:, None].chunk(parts, dim=-1)

    def mlp(self, name: str, x: Tensor) -> Tensor:
        inside = gelu(self.linear(f"{name}.net.0.proj", x), approximate="tanh")
        return self.linear(f"{name}.net.2", inside)

    def linear(self, name: str, x: Tensor) -> Tensor:
        return x @ self.weights[f"{name}.weight"].T + self.weights[f"{name}.bias"]

    def low(self, name: str, x: Tensor) -> Tensor:
        return x @ self.lora[f"{name}.down.weight"].T @ self.lora[f"{name}.up.weight"].T


def written_ids(*grids: tuple[int, int]) -> Tensor:
    """docs/method.md §4: index 0; each grid's rows and columns go on where the last one's end."""
    ids, top, left = [], 0, 0
    for rows, columns in grids:
        ids += [[0, top + row, left + column] for row in range(rows) for column in range(columns)]
        top, left = top + rows, left + columns
    return torch.tensor(ids, dtype=torch.float32)


def test_references_stand_on_the_diagonal() -> None:
    ids = diagonal_ids((2, 3), [(2, 1), (1, 2)])
    assert [one.tolist() for one in ids] == [
        [[0, 2, 3], [0, 3, 3]],
        [[0, 4, 4], [0, 4, 5]],
    ]
    assert all(one.dtype == torch.float32 for one in ids)
    assert diagonal_ids((300, 1), [(1, 1)])[0].tolist() == [[0, 300, 1]]


def test_the_model_sees_image_and_references_in_order(two_references) -> None:
    ours = policy()
    seen = {}

    def look(model, args, given) -> None:
        seen.update(given)

    ours.denoiser.register_forward_pre_hook(look, with_kwargs=True)
    condition, x = ours.encode([two_references]), ours.initial_noise([1])
    with torch.no_grad():
        v = ours.velocity(x, 0.7, condition)
    assert v.shape == x.shape == (1, 4 * 6, 16)
    first, second = (one["tokens"] for one in condition.tasks[0].references)
    assert first.shape == (6, 4, 16)
    assert second.shape == (3, 6, 16)
    tokens = torch.cat([x[0], first.reshape(-1, 16), second.reshape(-1, 16)])
    assert torch.equal(seen["hidden_states"][0], tokens)
    assert torch.equal(seen["img_ids"], written_ids((4, 6), (6, 4), (3, 6)))
    assert seen["img_ids"].dtype == torch.float32
    assert not seen["txt_ids"].any()


@torch.no_grad()
def test_the_forward_is_unos(two_references, tmp_path: Path) -> None:
    lora = tiny_uno()
    save_file(lora, tmp_path / "uno.safetensors")
    plain = policy(guidance=2.5)
    unlike = torch.Generator().manual_seed(8)
    for name, value in plain.denoiser.named_parameters():
        if ".norm_" in name:  # ones would not show whose norm is whose
            value.copy_(torch.rand(value.shape, generator=unlike) + 0.5)
    written = WrittenOut(plain.denoiser, lora)
    silent = WrittenOut(plain.denoiser, {name: 0 * value for name, value in lora.items()})
    uno = {
        merge: policy(guidance=2.5, uno_lora=tmp_path / "uno.safetensors", merge_uno=merge)
        for merge in (True, False)
    }
    for ours in uno.values():
        for name, value in ours.denoiser.named_parameters():
            if ".norm_" in name:
                value.copy_(plain.denoiser.get_parameter(name))
    encoded, x = plain.encode([two_references]).tasks[0], plain.initial_noise([1])
    tokens = torch.cat(
        [x, *(one["tokens"].flatten(0, 1)[None] for one in encoded.references)], dim=1
    )
    text, ids = encoded.text["states"][None], written_ids((4, 6), (6, 4), (3, 6))
    expected = [
        model(tokens, ids, text, encoded.text["pooled"][None], 0.7, 2.5)[:, : x.shape[1]]
        for model in (written, silent)
    ]
    for ours in uno.values():
        v = ours.velocity(x, 0.7, ours.encode([two_references]))
        assert (v - expected[0]).abs().max() < 1e-5
    v = plain.velocity(x, 0.7, plain.encode([two_references]))
    assert (v - expected[1]).abs().max() < 1e-5
    assert (expected[0] - expected[1]).abs().max() > 0.05


@torch.no_grad()
@pytest.mark.parametrize("merge", [True, False])
def test_the_ode_sampler_is_stocks_with_two_references(two_references, merge, tmp_path) -> None:
    save_file(tiny_uno(), tmp_path / "uno.safetensors")
    ours = policy(
        uno_lora=tmp_path / "uno.safetensors",
        merge_uno=merge,
        true_cfg_scale=2.0,
        negative_prompt="blue snow",
    )
    condition, x, sigmas = ours.encode([two_references]), ours.initial_noise([3]), ours.sigmas(3)
    for sigma, following in pairwise(sigmas):
        x, _ = ode(x, ours.velocity(x, sigma, condition), sigma, following)
    assert torch.equal(x, FAMILY.stock(ours, two_references, 3, 3))


@torch.no_grad()
def test_the_order_of_references_matters(two_references) -> None:
    ours, x = policy(), policy().initial_noise([1])
    first, second = two_references.references
    swapped = replace(two_references, reference=second, more_references=(first,))
    v, w = (ours.velocity(x, 0.5, ours.encode([task])) for task in (two_references, swapped))
    assert (v - w).abs().max() > 1e-3


def test_blank_tasks_have_the_shapes_of_encoded_ones(two_references) -> None:
    for options in ({}, {"true_cfg_scale": 2.0}):
        ours = policy(**options)
        encoded, blank = ours.encode([two_references]).tasks[0], ours.blank_task(SHAPES)
        assert blank.shapes == encoded.shapes
        assert (blank.negative is None) == (encoded.negative is None)
        for ours_part, blank_part in zip(encoded.references, blank.references, strict=True):
            assert ours_part["tokens"].dtype == blank_part["tokens"].dtype


@pytest.mark.parametrize(
    ("size", "longest", "expected"),
    [
        ((512, 512), 512, (512, 512)),
        ((1000, 750), 512, (512, 384)),
        ((750, 1000), 320, (240, 320)),
        ((100, 300), 512, (160, 512)),  # 170 rows are cropped to 160
        ((49, 49), 512, (512, 512)),  # in floating point, 511
    ],
)
def test_references_are_scaled_and_cropped_to_whole_tokens(size, longest, expected) -> None:
    assert fitted_size(*size, longest, 16) == expected
    image = fitted(photo(*size), longest, 16)
    assert (image.height, image.width) == expected


def test_the_crop_is_central() -> None:
    image = photo(10, 24)
    assert fitted(image, 24, 4).tobytes() == image.crop((0, 1, 24, 9)).tobytes()


def test_unos_rule_for_the_size_of_references() -> None:
    ours = policy(reference_size=None)
    tokens = [one["tokens"].shape for one in ours.blank_task([(100, 75)]).references]
    assert tokens == [(128, 96, 16)]
    both = [one["tokens"].shape for one in ours.blank_task([(100, 75), (75, 100)]).references]
    assert both == [(80, 60, 16), (60, 80, 16)]


def test_bad_references_and_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"'a red duck!'.*2×20 pixels.*at 24 the other has 2"):
        policy().encode([a_task(reference=photo(20, 2))])
    with pytest.raises(ValueError, match="reference_size must be at least 4, not 3"):
        policy(reference_size=3)
    many = replace(a_task(), more_references=(photo(20, 12),) * 4)
    with pytest.raises(ValueError, match="has 5 references; this policy takes 4"):
        policy().encode([many])
    assert LONGEST == 24  # what the messages above say
