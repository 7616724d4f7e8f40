"""On a GPU autocast computes RMS norms in float32; attention kernels want one dtype all the same.

Emulated here: within autocast norms give float32, and attention refuses mixtures as flash does.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from diffusers.models.transformers import transformer_flux
from tiny import a_task, make_policy
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from likewise.policies.flux_kontext import FluxKontextPolicy


class CudaNorms(TorchFunctionMode):
    """RMS norms as CUDA's autocast has them."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is F.rms_norm and torch.is_autocast_enabled("cpu"):
            args = tuple(one.float() if isinstance(one, Tensor) else one for one in args)
        return func(*args, **(kwargs or {}))


@pytest.fixture
def strict(monkeypatch: pytest.MonkeyPatch) -> list[torch.dtype]:
    """Attention that takes one 16-bit dtype only; the dtypes that it met."""
    seen: list[torch.dtype] = []
    attend = transformer_flux.dispatch_attention_fn

    def flash(query: Tensor, key: Tensor, value: Tensor, **options: Any) -> Tensor:
        assert query.dtype == key.dtype == value.dtype != torch.float32
        seen.append(value.dtype)
        return attend(query, key, value, **options)

    monkeypatch.setattr(transformer_flux, "dispatch_attention_fn", flash)
    return seen


@contextmanager
def on_cuda() -> Iterator[None]:
    with CudaNorms():
        yield


def velocity(policy: FluxKontextPolicy) -> Tensor:
    condition = policy.encode([a_task()])
    with on_cuda():
        return policy.velocity(policy.initial_noise([1]), 0.7, condition)


@pytest.mark.parametrize("how", ["untrained", "lora", "full"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_queries_and_keys_have_the_dtype_of_values(
    strict: list[torch.dtype], dtype: torch.dtype, how: str
) -> None:
    policy = make_policy(dtype)
    if how == "lora":
        policy.add_lora(4, 4)
    if how == "full":
        policy.train_all()
    velocity(policy)
    assert set(strict) == {dtype}


def test_the_untrained_model_is_computed_like_a_trained_one() -> None:
    """So that the untrained row of a study differs from its arms by training alone."""
    untrained, fresh = make_policy(torch.bfloat16), make_policy(torch.bfloat16)
    fresh.add_lora(4, 4)
    wanted = velocity(fresh)
    assert torch.equal(velocity(untrained), wanted)
    with fresh.adapter_disabled():
        assert torch.equal(velocity(fresh), wanted)
