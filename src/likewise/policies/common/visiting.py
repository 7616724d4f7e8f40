"""Parts of a pipeline that wait on the CPU, and visit the device for each use."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

Place = tuple[dict[str, Any], str, Tensor]  # of a tensor: who holds it, by which name; what waits


class Visitors:
    """Frozen modules whose weights wait on the CPU. What is on the device is a copy.

    So nothing has to be copied back, and one copy to the device is made for each visit, from
    page-locked memory where the device is a GPU.

    Args:
        parts: By name; what is not a module never moves.
        device: Where they are used; None: where they are, all the time.
    """

    def __init__(self, parts: Mapping[str, Any], device: torch.device | None) -> None:
        self.device = None if device is None or device.type == "cpu" else device
        self.parts = {name: one for name, one in parts.items() if isinstance(one, nn.Module)}
        self.here: list[str] = []
        self._places: dict[str, list[Place]] = {}
        self._stay = False

    @contextmanager
    def visiting(self, *names: str) -> Iterator[None]:
        """Within this context the parts whose names start like this are on the device."""
        try:
            for name in self.parts:
                if name.startswith(names) and name not in self.here:
                    self.here.append(name)
                    self.arrive(name)
            yield
        finally:
            if not self._stay:
                self._all_leave()

    @contextmanager
    def staying(self) -> Iterator[None]:
        """Within this context, whoever visits stays until its end."""
        self._stay = True
        try:
            yield
        finally:
            self._stay = False
            self._all_leave()

    def arrive(self, name: str) -> None:
        """Copy a part's weights to the device."""
        if self.device is None:
            return
        if name not in self._places:
            self._places[name] = _places(self.parts[name], self.device.type == "cuda")
        copies: dict[int, Tensor] = {}  # of shared weights one
        for holder, key, waiting in self._places[name]:
            if id(waiting) not in copies:
                copies[id(waiting)] = _like(waiting, waiting.to(self.device, non_blocking=True))
            holder[key] = copies[id(waiting)]

    def leave(self, name: str) -> None:
        """Drop the copies."""
        for holder, key, waiting in self._places.get(name, ()):
            holder[key] = waiting

    def _all_leave(self) -> None:
        while self.here:
            self.leave(self.here.pop())


def _places(part: nn.Module, pin: bool) -> list[Place]:
    """All weights of a module, and where they belong."""
    waiting: dict[int, Tensor] = {}
    found: list[Place] = []
    for module in part.modules():
        for holder in (module._parameters, module._buffers):
            for key, own in holder.items():
                if own is not None:
                    if id(own) not in waiting:
                        waiting[id(own)] = _like(own, own.data.pin_memory()) if pin else own
                    found.append((holder, key, waiting[id(own)]))
    return found


def _like(one: Tensor, data: Tensor) -> Tensor:
    """A parameter or a buffer, as `one` is."""
    return nn.Parameter(data, requires_grad=False) if isinstance(one, nn.Parameter) else data
