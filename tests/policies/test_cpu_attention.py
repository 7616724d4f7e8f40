"""16-bit attention on a CPU: torch's forward in every bit, a backward pass in float32."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tiny import a_task, make_policy
from torch import Tensor
from torch.nn import functional as F

from likewise.policies.common import cpu_attention
from likewise.policies.common.cpu_attention import Float32Backward

SHAPE = (2, 3, 40, 16)


def inputs(dtype: torch.dtype) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(SHAPE, generator=generator).to(dtype).requires_grad_() for _ in range(3)]


def attend(dtype: torch.dtype, wide: bool, **options: Any) -> tuple[Tensor, list[Tensor]]:
    """The output and the gradients of queries, keys and values."""
    leaves = inputs(dtype)
    if wide:
        with Float32Backward():
            out = F.scaled_dot_product_attention(*leaves, **options)
    else:
        out = F.scaled_dot_product_attention(*leaves, **options)
    upstream = torch.randn(SHAPE, generator=torch.Generator().manual_seed(1))
    out.backward(upstream.to(dtype))
    return out.detach(), [leaf.grad.float() for leaf in leaves]


@pytest.mark.parametrize("scale", [None, 0.5])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_forward_is_torchs_and_gradients_are_nearer_to_float32(
    dtype: torch.dtype, scale: float | None
) -> None:
    stock, wide = attend(dtype, False, scale=scale), attend(dtype, True, scale=scale)
    assert torch.equal(wide[0], stock[0])
    leaves = [leaf.detach().float().requires_grad_() for leaf in inputs(dtype)]
    upstream = torch.randn(SHAPE, generator=torch.Generator().manual_seed(1)).to(dtype).float()
    F.scaled_dot_product_attention(*leaves, scale=scale).backward(upstream)
    for leaf, own, torchs in zip(leaves, wide[1], stock[1], strict=True):
        error, torchs_error = (own - leaf.grad).norm(), (torchs - leaf.grad).norm()
        assert error < torchs_error and error < 0.005 * leaf.grad.norm()


@pytest.mark.parametrize(
    "options",
    [
        {"is_causal": True},
        {"attn_mask": torch.ones(SHAPE[2], SHAPE[2]).tril().bool()},
        {"enable_gqa": True},
    ],
)
def test_other_attention_is_left_to_torch(options: dict[str, Any]) -> None:
    stock, wide = (attend(torch.bfloat16, own, **options) for own in (False, True))
    assert torch.equal(wide[0], stock[0])
    assert all(map(torch.equal, wide[1], stock[1]))


def test_float32_is_left_to_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu_attention, "_forward", None)
    stock, wide = (attend(torch.float32, own) for own in (False, True))
    assert torch.equal(wide[0], stock[0]) and all(map(torch.equal, wide[1], stock[1]))


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[torch.dtype]:
    """Dtypes of the backward passes that were ours."""
    seen: list[torch.dtype] = []
    backward = cpu_attention._backward

    def counted(gradient: Tensor, *rest: Any, **options: Any) -> Any:
        seen.append(gradient.dtype)
        return backward(gradient, *rest, **options)

    monkeypatch.setattr(cpu_attention, "_backward", counted)
    return seen


def test_replay_of_a_policy_equals_its_rollout(passes: list[torch.dtype]) -> None:
    policy = make_policy(torch.bfloat16)
    policy.add_lora(4, 4)
    condition, noise = policy.encode([a_task()]), policy.initial_noise([1])
    with torch.no_grad():
        rollout = policy.velocity(noise, 0.7, condition)
    replay = policy.velocity(noise, 0.7, condition)
    assert torch.equal(replay, rollout)
    replay.square().mean().backward()
    assert passes and set(passes) == {torch.float32}


@pytest.mark.parametrize("late", [False, True])
def test_recomputed_blocks_keep_torchs_attention(passes: list[torch.dtype], late: bool) -> None:
    """A block that is recomputed in the backward pass is outside the context then."""
    policy = make_policy(torch.bfloat16, gradient_checkpointing=not late)
    if late:
        policy.denoiser.enable_gradient_checkpointing()
    policy.add_lora(4, 4)
    policy.denoiser.train()
    velocity = policy.velocity(policy.initial_noise([1]), 0.7, policy.encode([a_task()]))
    velocity.square().mean().backward()
    assert not passes
