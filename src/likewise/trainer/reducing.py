"""Gradients of all processes, added up."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor, nn

BUCKET_BYTES = 64 * 2**20  # of gradients that share a message
AddUp = Callable[[Tensor], None]


def sum_gradients(
    parameters: Sequence[nn.Parameter], add_up: AddUp | None, bucket: int = BUCKET_BYTES
) -> None:
    """Give every parameter the sum of its gradients over processes; missing ones count as 0.

    In place, and in buckets: beside the gradients themselves this takes the memory of one bucket.

    Args:
        add_up: Replaces a tensor by its sum over processes; None: there is only this process.
        bucket: Bytes. A larger gradient is sent by itself, without a copy.
    """
    for parameter in parameters:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    if add_up is None:
        return
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    for some in _buckets(gradients, bucket):
        if len(some) == 1 and some[0].is_contiguous():
            add_up(some[0])
            continue
        flat = torch.cat([one.flatten() for one in some])
        add_up(flat)
        for one, part in zip(some, flat.split([one.numel() for one in some]), strict=True):
            one.copy_(part.view_as(one))


def _buckets(gradients: Sequence[Tensor], most: int) -> Iterator[list[Tensor]]:
    """In their order; each of no more than `most` bytes, or a single gradient."""
    some: list[Tensor] = []
    size = 0
    for one in gradients:
        if some and size + one.nbytes > most:
            yield some
            some, size = [], 0
        some.append(one)
        size += one.nbytes
    if some:
        yield some
