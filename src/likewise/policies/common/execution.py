"""How models run: gradient checkpointing, compilation, attention backends, offloading."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from diffusers.models.attention_dispatch import AttentionBackendName, attention_backend
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

ON_A_CPU = ("native", "_native_flash", "_native_math", "flex")  # attention backends that work there
QUERY_NORMS = {"norm_q", "norm_k", "norm_added_q", "norm_added_k"}  # in diffusers' transformers


def set_up(denoiser: Any, checkpointing: bool, compile: bool, attention: str | None) -> None:
    """Switch on what is asked for, in place.

    Raises:
        ValueError: there is no such attention backend, its package is missing, or the model has no
            blocks to compile.
    """
    if checkpointing:
        denoiser.enable_gradient_checkpointing()
    if attention is not None:
        _use_attention(denoiser, attention)
    if compile:
        # In place, so that weights keep their names; block by block, so that one program serves all
        # blocks of a kind and the first iteration starts in seconds instead of minutes.
        denoiser.compile_repeated_blocks()


def narrow_queries(denoiser: Any, dtype: torch.dtype) -> None:
    """Give attention its queries and keys in the dtype of its values.

    Autocast computes RMS norms in float32 on a GPU, so that normalised queries and keys would be
    wider than values. torch's own attention narrows them; other kernels refuse such a mixture.
    """
    if dtype == torch.float32:
        return
    for name, module in denoiser.named_modules():
        if name.rpartition(".")[2] in QUERY_NORMS:
            module.register_forward_hook(partial(_narrowed, dtype))


class KeptOnCpu(saved_tensors_hooks):
    """Context of a forward: what autograd keeps for the backward pass waits in the CPU's memory.

    That of a GPU is page-locked, so that computation goes on while it is copied.
    """

    def __init__(self) -> None:
        super().__init__(self._pack, self._unpack)

    @staticmethod
    def _pack(tensor: Tensor) -> tuple[torch.device, Tensor]:
        # In the same layout: in another one, products are summed up in another order.
        kept = torch.empty_like(tensor, device="cpu", pin_memory=tensor.is_cuda)
        kept.copy_(tensor, non_blocking=True)
        return tensor.device, kept

    @staticmethod
    def _unpack(kept: tuple[torch.device, Tensor]) -> Tensor:
        device, tensor = kept
        return tensor.to(device, non_blocking=True)


def _narrowed(dtype: torch.dtype, module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
    return output.to(dtype)


def _use_attention(denoiser: Any, name: str) -> None:
    names = sorted(backend.value for backend in AttentionBackendName)
    if name not in names:
        raise ValueError(
            f"policy.attention: there is no backend {name!r}; diffusers has {', '.join(names)}"
        )
    if denoiser.device.type == "cpu" and name not in ON_A_CPU:
        raise ValueError(
            f"policy.attention: {name!r} needs a GPU; on a CPU there are {', '.join(ON_A_CPU)}"
        )
    if not any(hasattr(one, "_attention_backend") for one in _processors(denoiser)):
        raise ValueError(
            f"policy.attention: {type(denoiser).__name__} cannot change its backend; leave it out"
        )
    try:
        with attention_backend(name):  # else it would become the default of every other model too
            denoiser.set_attention_backend(name)
    except (ImportError, RuntimeError, ValueError) as error:
        raise ValueError(f"policy.attention: cannot use {name!r}: {error}") from error


def _processors(denoiser: Any) -> list[Any]:
    return [getattr(module, "processor", None) for module in denoiser.modules()]
