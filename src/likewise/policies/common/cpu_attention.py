"""Attention on CPUs whose backward pass is computed in float32.

In bfloat16, the backward pass of torch's flash attention for CPUs takes several times as long as in
float32. Here the forward is torch's, bit for bit (so that ratios of rollout and replay stay exactly
1), and the backward is torch's float32 kernel, which is also nearer to the true gradient
(``benchmarks/cpu_attention.py``).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

_forward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
_backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward
_PLAIN = {"attn_mask": None, "dropout_p": 0.0, "is_causal": False, "enable_gqa": False}


class Float32Backward(TorchFunctionMode):
    """Context in which 16-bit attention on a CPU has a float32 backward pass.

    Concerns calls of ``scaled_dot_product_attention`` that are differentiated and have no mask, no
    dropout and no causality; all others are torch's own.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if func is F.scaled_dot_product_attention and torch.is_grad_enabled():
            return _attend(*args, **kwargs)
        return func(*args, **kwargs)


def _attend(query: Tensor, key: Tensor, value: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    inputs: tuple[Tensor, ...] = (query, key, value)
    if torch.is_autocast_enabled("cpu"):
        dtype = torch.get_autocast_dtype("cpu")
        inputs = tuple(x.to(dtype) if x.is_floating_point() else x for x in inputs)
    scale = kwargs.get("scale")
    if args or not _has_flash(inputs) or not _is_plain(kwargs):
        return F.scaled_dot_product_attention(query, key, value, *args, **kwargs)
    out: Tensor = _Flash.apply(*inputs, scale)
    return out


def _is_plain(kwargs: Mapping[str, Any]) -> bool:
    return all(kwargs.get(name, usual) == usual for name, usual in _PLAIN.items())


def _has_flash(inputs: Sequence[Tensor]) -> bool:
    """Whether torch would choose its flash kernel, as it does for dense 16-bit [B, H, L, D]."""
    query, key, value = inputs
    return (
        all(x.device.type == "cpu" and x.dtype in (torch.bfloat16, torch.float16) for x in inputs)
        and query.ndim == key.ndim == value.ndim == 4
        and query.shape[:2] == key.shape[:2] == value.shape[:2]
        and query.shape[-1] == key.shape[-1] == value.shape[-1]
        and torch.backends.cuda.flash_sdp_enabled()
        and all(x.stride(-1) == 1 for x in inputs)
        and any(x.requires_grad for x in inputs)
    )


class _Flash(torch.autograd.Function):
    """Attention of [B, H, L, D] in 16 bits; gradients through float32, returned in 16 bits."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, scale: float | None) -> Tensor:
        out, logsumexp = _forward(query, key, value, 0.0, False, scale=scale)
        ctx.save_for_backward(query, key, value, out, logsumexp)
        ctx.scale = 1 / math.sqrt(query.shape[-1]) if scale is None else scale
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, out, logsumexp = ctx.saved_tensors
        wide = [x.float() for x in (gradients[0], query, key, value, out)]
        wide_gradients = _backward(*wide, logsumexp, 0.0, False, scale=ctx.scale)
        return (*(x.to(query.dtype) for x in wide_gradients), None)
