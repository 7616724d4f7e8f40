"""Several processes that act as one: what they exchange, through Accelerate."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import TypeVar

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast, gather_object
from torch import Tensor, nn

T = TypeVar("T")

# How long one process waits for the others: more than anything takes that only one of them does.
# Slow rewards take 540 s at most; the main process writes and hashes checkpoints alone. (torch's
# own limit is 10 minutes with NCCL.) A process that died is noticed without it.
COLLECTIVE_TIMEOUT = timedelta(hours=1)


class Processes:
    """This process among all. With one process every exchange is the identity."""

    def __init__(self, accelerator: Accelerator) -> None:
        self.accelerator = accelerator
        self.count: int = accelerator.num_processes
        self.index: int = accelerator.process_index
        self.is_main: bool = accelerator.is_main_process

    @property
    def device(self) -> torch.device:
        return self.accelerator.device

    def gather(self, items: Sequence[T]) -> list[T]:
        """The items of all processes, in the order of processes."""
        return list(gather_object(list(items)))

    def sum(self, tensor: Tensor) -> Tensor:
        """Sum over processes of a tensor of one shape."""
        return self.accelerator.reduce(tensor, "sum")

    def any(self, flag: bool) -> bool:
        """Whether it is true in some process. All have to ask."""
        return bool(self.sum(torch.tensor([float(flag)], device=self.device)) > 0)

    def same_start(self, parameters: Sequence[nn.Parameter]) -> None:
        """Give every process the main one's parameters."""
        for parameter in parameters:
            parameter.data = broadcast(parameter.data)

    def wait(self) -> None:
        self.accelerator.wait_for_everyone()
