"""Tensors that have shapes and types but no memory, and that behave as a GPU's do."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

# What CUDA's autocast computes in float32 and the CPU's does not, as diffusers' models call it
# (torch: "CUDA Ops that can autocast to float32").
WIDENED = {
    *(F.layer_norm, torch.layer_norm, F.group_norm, torch.group_norm, F.rms_norm, torch.rms_norm),
    *(torch.pow, Tensor.pow, Tensor.__pow__, torch.rsqrt, Tensor.rsqrt, torch.exp, Tensor.exp),
    *(torch.sum, Tensor.sum, F.softmax, torch.softmax, Tensor.softmax, F.interpolate),
    *(torch.norm, Tensor.norm, torch.linalg.vector_norm),
}
RMS_NORMS = {F.rms_norm, torch.rms_norm}


class Weightless:
    """Within this context new tensors take no memory, and operations only work out shapes.

    They are CPU tensors, since autograd knows no CUDA tensors where there is no CUDA. The context
    can be entered again, for tensors that were made in it. Code that asks for a number gets 0.

    Args:
        like_cuda: Save for the backward pass what CUDA's kernels save; else what the CPU's do.
    """

    def __init__(self, like_cuda: bool = True) -> None:
        mode = _Blank(allow_non_fake_inputs=True)
        # It would keep weak references to parameters, which Module.to then refuses to replace.
        mode.fake_tensor_converter.set_tensor_memo = _forget  # type: ignore
        self._contexts: list[Any] = [mode, _LikeCuda()] if like_cuda else [mode]

    def __enter__(self) -> None:
        for context in self._contexts:
            context.__enter__()

    def __exit__(self, *error: Any) -> None:
        for context in reversed(self._contexts):
            context.__exit__(*error)


def _forget(real: Tensor, fake: Tensor) -> None:
    """Remember no pair of tensors."""


class _Blank(FakeTensorMode):
    def dispatch(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten._local_scalar_dense.default:
            return 0.0 if args[0].is_floating_point() else 0
        return super().dispatch(func, types, args, kwargs)


class _LikeCuda(TorchFunctionMode):
    """Where CUDA's operations keep other tensors alive than the CPU's, do as they do.

    Attention does: both save the inputs, the output, and one number per query.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if func in WIDENED and torch.is_autocast_enabled("cpu"):
            args = tuple(_widened(value) for value in args)
            kwargs = {name: _widened(value) for name, value in kwargs.items()}
        if func in RMS_NORMS:  # one kernel, which saves what a layer norm saves; not six of them
            return _rms_norm(*args, **kwargs)
        return func(*args, **kwargs)


def _widened(value: Any) -> Any:
    narrow = isinstance(value, Tensor) and value.dtype in (torch.bfloat16, torch.float16)
    return value.float() if narrow else value


def _rms_norm(
    input: Tensor, normalized_shape: Any, weight: Tensor | None = None, eps: float | None = None
) -> Tensor:
    return F.layer_norm(input, normalized_shape, weight)
