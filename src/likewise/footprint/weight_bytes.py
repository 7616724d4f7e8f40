"""Bytes of weights: as they are, and as quantisation would store them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

# Bytes of a linear layer's weight [rows, columns]. bitsandbytes: NF4 is half a byte, plus one byte
# per block of 64 and one float32 per 256 blocks (double quantisation); int8 has a float32 per row.
QUANTIZED: dict[str, Callable[[int, int], float]] = {
    "bitsandbytes-4bit": lambda rows, columns: rows * columns * (1 / 2 + 1 / 64 + 4 / (64 * 256)),
    "bitsandbytes-8bit": lambda rows, columns: rows * columns + 4 * rows,
    "torchao-int8": lambda rows, columns: rows * columns + 4 * rows,
}


def parts(policy: Any) -> dict[str, int]:
    """Bytes of the frozen weights of each of the pipeline's parts; shared ones count once."""
    trained = {id(parameter) for parameter in policy.trainable_parameters()}
    seen: set[int] = set()
    sizes = {}
    for name, part in policy.pipeline.components.items():
        if isinstance(part, nn.Module):
            own = (*part.parameters(), *part.buffers())
            sizes[name] = storage_bytes((one for one in own if id(one) not in trained), seen)
    return sizes


def storage_bytes(tensors: Iterable[Tensor], seen: set[int] | None = None) -> int:
    """Bytes of the storages below these tensors, each once; those in `seen` do not count."""
    seen = set() if seen is None else seen
    total = 0
    for tensor in tensors:
        storage = tensor.untyped_storage()
        if storage._cdata not in seen:
            seen.add(storage._cdata)
            total += storage.nbytes()
    return total


def module_bytes(module: nn.Module) -> int:
    return storage_bytes((*module.parameters(), *module.buffers()))


def saved_by(quantization: str, denoiser: nn.Module) -> int:
    """Bytes that quantising the linear layers of a denoiser saves."""
    rule = QUANTIZED[quantization]
    return round(
        sum(layer.weight.nbytes - rule(*layer.weight.shape) for layer in _linears(denoiser))
    )


def working_copy(denoiser: nn.Module, dtype: torch.dtype) -> int:
    """Bytes of the largest linear weight: quantised ones are unpacked one at a time for use."""
    sizes = [layer.weight.numel() for layer in _linears(denoiser)]
    return max(sizes, default=0) * dtype.itemsize


def _linears(denoiser: nn.Module) -> list[nn.Linear]:
    """The frozen ones: an adapter's are not quantised."""
    return [
        layer
        for layer in denoiser.modules()
        if isinstance(layer, nn.Linear) and not layer.weight.requires_grad
    ]
