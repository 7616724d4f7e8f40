"""What a denoiser in shards takes while it runs, beside activations: blocks that are put together.

Follows torch's ``fully_shard``, step by step. Before a block's forward its weights arrive in one
message and are copied to its parameters; afterwards they are dropped, but the message waits for the
next one. In the backward pass the block before it is fetched meanwhile. The gradients of a block
are copied into a message, which waits for that of the next block.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_unflatten

from likewise.sharding.shards import blocks_of


class Gathering:
    """A context in which a whole model, traced, takes memory as if it were in shards.

    Its own weights are not counted (:meth:`Tracker.know`), and its parameters have no gradients.

    Args:
        model: With weights in the dtype in which they are put together.
        size: Processes that share it.
        keeps_messages: Memory of a message serves later messages only, as it is another stream's on
            a GPU; else it is free for anything.
    """

    def __init__(self, model: nn.Module, size: int, keeps_messages: bool) -> None:
        self.size, self.keeps_messages = size, keeps_messages
        self.dtype = next(model.parameters()).dtype
        inner: set[int] = set()
        self.parts = []
        for module in (*blocks_of(model), model):
            own = [one for one in module.parameters() if id(one) not in inner]
            inner |= {id(one) for one in own}
            self.parts.append(_Part(module, own, self))
        self.order: list[_Part] = []  # of forwards, for the backward pass
        self.arrived: Tensor | None = None  # the last message of a forward
        self.sent: Tensor | None = None  # the last message of gradients
        self.reserve: Tensor | None = None

    def __enter__(self) -> None:
        if self.keeps_messages:
            self.reserve = self.empty(max(part.numbers for part in self.parts))
        for part in self.parts:
            part.attach()

    def __exit__(self, *error: object) -> None:
        for part in self.parts:
            part.finish()
        self.order, self.arrived, self.sent, self.reserve = [], None, None, None

    def empty(self, numbers: int) -> Tensor:
        """Weights, or a message of them."""
        return torch.empty(numbers, dtype=self.dtype)


class _Part:
    """A block, or what is in none: its parameters come together at once."""

    def __init__(
        self, module: nn.Module, parameters: Sequence[nn.Parameter], all: Gathering
    ) -> None:
        self.module, self.parameters, self.all = module, list(parameters), all
        self.numbers = sum(one.numel() for one in parameters)
        self.whole: Tensor | None = None
        self.fetched: Tensor | None = None
        self.is_backward = False
        self.handles: list[Any] = []

    def attach(self) -> None:
        before, after = self.before_forward, self.after_forward
        self.handles = [
            self.module.register_forward_pre_hook(before, with_kwargs=True),
            self.module.register_forward_hook(after),
        ]

    def finish(self) -> None:
        """For good, and after a backward pass that did not come by, as no input has a gradient."""
        if self.is_backward:
            self.after_backward()
        for handle in self.handles:
            handle.remove()
        self.whole = self.fetched = None

    def before_forward(self, module: nn.Module, args: Any, kwargs: Any) -> Any:
        if self.is_backward:  # recomputing, with checkpointing
            return None
        message = self._empty()
        self.all.arrived = None
        self.whole, self.all.arrived = self._empty(), message
        return _edges(self.after_backward, (args, kwargs))

    def after_forward(self, module: nn.Module, inputs: Any, output: Any) -> None:
        if self.is_backward:
            return
        self.whole = None
        self.all.order.append(self)
        if self is self.all.parts[-1]:
            self.all.arrived = None
        for one in _with_gradient(tree_flatten(output)[0]):
            one.register_hook(self.before_backward)

    def before_backward(self, gradient: Tensor) -> None:
        if self.is_backward:
            return
        self.is_backward = True
        fetched, self.fetched = self.fetched, None
        message = self._empty() if fetched is None else fetched
        self.whole = self._empty()
        del message, fetched
        order = self.all.order
        while order and order[-1] is not self:  # forwards without gradient
            order.pop()
        if order:
            order.pop()
        if order and order[-1].whole is None:
            order[-1].fetched = order[-1]._empty()

    def after_backward(self) -> None:
        self.is_backward, self.whole = False, None
        self.all.sent = None
        numbers = sum(one.numel() for one in self.parameters if one.grad is not None)
        self.all.sent = torch.empty(numbers, dtype=torch.float32)
        for one in self.parameters:
            one.grad = None
        torch.empty(numbers // self.all.size, dtype=torch.float32)  # to be added to the shards

    def _empty(self) -> Tensor:
        return self.all.empty(self.numbers)


def _edges(then: Callable[[], None], inputs: Any) -> Any:
    """The inputs of a forward, so that `then` is called when the backward pass is through it."""
    flat, layout = tree_flatten(inputs)
    places = [i for i, one in enumerate(flat) if isinstance(one, Tensor) and one.requires_grad]
    if not places or not torch.is_grad_enabled():
        return None
    for place, one in zip(places, _Edge.apply(then, *(flat[i] for i in places)), strict=True):
        flat[place] = one
    return tree_unflatten(flat, layout)


def _with_gradient(values: Sequence[Any]) -> list[Tensor]:
    return [one for one in values if isinstance(one, Tensor) and one.requires_grad]


class _Edge(torch.autograd.Function):
    """Tensors as they are; calls a function on the way back."""

    @staticmethod
    def forward(ctx: Any, then: Callable[[], None], *tensors: Tensor) -> tuple[Tensor, ...]:
        ctx.then = then
        return tensors

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        ctx.then()
        return (None, *gradients)
