"""Where tensors without data lie: on the meta device, or in a ``FakeTensorMode``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch._guards import active_fake_mode
from torch._subclasses.fake_tensor import unset_fake_temporarily


@contextmanager
def on_meta(dtype: torch.dtype) -> Iterator[None]:
    """New tensors are on the meta device, even inside a fake mode; floating ones have `dtype`."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with unset_fake_temporarily(), torch.device("meta"):
            yield
    finally:
        torch.set_default_dtype(before)


def into_fake_mode(model: nn.Module) -> None:
    """Inside a fake mode, give the model tensors of that mode, on the CPU; elsewhere do nothing.

    A model built inside the mode would fail where its initialisation looks at values.
    """
    if active_fake_mode():
        replace_tensors(model)


def replace_tensors(model: nn.Module) -> None:
    """Replace every tensor by an empty one of its shape and dtype, shared where it was shared.

    ``Module.to_empty`` does not see tensors that are plain attributes (Qwen-Image's rotary table),
    and cannot take a model out of a fake mode.
    """
    empty: dict[Tensor, Tensor] = {}
    module: Any
    for module in model.modules():
        for holder in (module._parameters, module._buffers, vars(module)):
            for name, old in holder.items():
                if isinstance(old, Tensor):
                    if old not in empty:
                        empty[old] = _empty_like(old)
                    holder[name] = empty[old]


def _empty_like(old: Tensor) -> Tensor:
    new = torch.empty(old.shape, dtype=old.dtype)
    return nn.Parameter(new, old.requires_grad) if isinstance(old, nn.Parameter) else new
