"""Several processes that act as one: what they exchange, through Accelerate."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast, broadcast_object_list, gather_object
from torch import Tensor, distributed, nn

from likewise.sharding.shards import Shards
from likewise.trainer.reducing import AddUp

T = TypeVar("T")


class Processes:
    """This process among all. With one process every exchange is the identity."""

    def __init__(self, accelerator: Accelerator) -> None:
        self.accelerator = accelerator
        self.count: int = accelerator.num_processes
        self.index: int = accelerator.process_index
        self.is_main: bool = accelerator.is_main_process
        self._finish: Callable[[], None] = lambda: None

    def share(self, shards: Shards | None) -> None:
        """Where a policy is in shards: before each exchange, finish its forwards together."""
        if shards is not None:
            self._finish = shards.lockstep.finish

    @property
    def device(self) -> torch.device:
        return self.accelerator.device

    def gather(self, items: Sequence[T]) -> list[T]:
        """The items of all processes, in the order of processes."""
        self._finish()
        return list(gather_object(list(items)))

    def gather_on_main(self, items: Sequence[T]) -> list[T]:
        """As :meth:`gather`, in the main process alone; nothing elsewhere."""
        self._finish()
        if self.count == 1:
            return list(items)
        found: list[list[T]] | None = [[] for _ in range(self.count)] if self.is_main else None
        distributed.gather_object(list(items), found, dst=0)
        return [item for own in found or () for item in own]

    def once(self, make: Callable[[], T]) -> T:
        """What the main process makes, in all of them.

        Raises:
            ValueError, OSError: making it failed.
        """
        self._finish()
        if self.count == 1:
            return make()
        result: T | None = None
        error: Exception | None = None
        if self.is_main:
            try:
                result = make()
            except (ValueError, OSError) as failure:
                error = failure
        found, kind, message = broadcast_object_list(
            [result, error and ("value" if isinstance(error, ValueError) else "os"), str(error)]
        )
        if kind is not None:
            raise error or {"value": ValueError, "os": OSError}[kind](message)
        return found

    def sum(self, tensor: Tensor) -> Tensor:
        """Sum over processes of a tensor of one shape."""
        self._finish()
        return self.accelerator.reduce(tensor, "sum")

    @property
    def add_up(self) -> AddUp | None:
        """Replaces a tensor by its sum over processes, in place; None: there is only this one."""
        return None if self.count == 1 else self._add_up

    def _add_up(self, tensor: Tensor) -> None:
        self._finish()
        distributed.all_reduce(tensor)

    def any(self, flag: bool) -> bool:
        """Whether it is true in some process. All have to ask."""
        return bool(self.sum(torch.tensor([float(flag)], device=self.device)) > 0)

    def same_start(self, parameters: Sequence[nn.Parameter]) -> None:
        """Give every process the main one's parameters."""
        self._finish()
        for parameter in parameters:
            parameter.data = broadcast(parameter.data)

    def wait(self) -> None:
        self._finish()
        self.accelerator.wait_for_everyone()
