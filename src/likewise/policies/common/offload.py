"""Parts that are seldom used wait on the CPU."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn


@contextmanager
def on_device(parts: Sequence[Any], device: torch.device | None) -> Iterator[None]:
    """Within this context the modules among `parts` are on `device`, afterwards on the CPU.

    None, or the CPU, leaves them where they are.
    """
    if device is None or device.type == "cpu":
        yield
        return
    modules = [part for part in parts if isinstance(part, nn.Module)]
    try:
        for module in modules:
            module.to(device)
        yield
    finally:
        for module in modules:
            module.to("cpu")
