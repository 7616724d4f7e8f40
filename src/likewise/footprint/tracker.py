"""How many bytes of tensors are alive while something runs, on real or fake tensors."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, UntypedStorage
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter


class Tracker(TorchDispatchMode):
    """A context that sees every tensor that comes into being inside it, the backward pass included.

    Memory counts once per storage, from the operation that returns it until the last tensor on it
    is gone. What lived before, and what a kernel uses and frees while it runs, is not seen.

    Attributes:
        live: Bytes now.
        peak: Most bytes so far.
    """

    def __init__(self) -> None:
        super().__init__()
        self.live = self.peak = 0
        self._seen: dict[int, weakref.ref[UntypedStorage]] = {}
        self._old: set[int] = set()

    def know(self, tensors: Sequence[Tensor]) -> None:
        """Tensors that lived before, and are not to be counted when an operation returns them."""
        self._old |= {_key(tensor.untyped_storage()) for tensor in tensors}

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if func is not torch.ops.prim.device.default:
            for one in tree_iter(result):
                if isinstance(one, Tensor):
                    self._count(one.untyped_storage())
        return result

    def _count(self, storage: UntypedStorage) -> None:
        key, size = _key(storage), storage.nbytes()
        if key in self._seen or key in self._old:
            return

        def forget(_: weakref.ref[UntypedStorage]) -> None:
            del self._seen[key]
            self.live -= size

        self._seen[key] = weakref.ref(storage, forget)
        self.live += size
        self.peak = max(self.peak, self.live)


def _key(storage: UntypedStorage) -> int:
    return storage._cdata
