"""Peak memory of what a policy does with one micro-batch: traced, not computed from formulas.

The policy's own code runs, forward and backward, on tensors without memory (:mod:`fake`), while a
tracker counts what is alive. So any architecture will do, and whatever autograd, the adapter,
autocast and checkpointing keep is in the numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from likewise.footprint.gathering import Gathering
from likewise.footprint.tracker import Tracker

SIGMA = 0.5
Size = tuple[int, int]


class Peaks:
    """Peak memory of one policy: bytes beyond what lives before and after.

    Args:
        policy: A ``PipelinePolicy`` with its adapter.
        references: Height and width in pixels of each reference of a task.
        against_reference: Whether an update compares with the frozen model (KL).
        world: Where the policy was made: a :class:`fake.Weightless`; by default among real tensors.
        gathering: How the denoiser is put together, where it is in shards.
    """

    def __init__(
        self,
        policy: Any,
        references: Sequence[Size],
        against_reference: bool = False,
        world: AbstractContextManager[None] | None = None,
        gathering: Gathering | None = None,
    ) -> None:
        self.policy, self.references = policy, references
        self.against_reference = against_reference
        self.world = nullcontext() if world is None else world
        self.gathering = gathering
        with self.world:
            self.condition = policy.blank_condition(references)
        self.trained: list[nn.Parameter] = policy.trainable_parameters()

    def rollout(self, batch: int) -> int:
        """A velocity without gradient."""
        with self.world, torch.no_grad():
            x = self._latents(batch)
            return self._peak(lambda: self._velocity(x, batch))

    def update(self, batch: int, checkpointing: bool, offloaded: bool = False) -> int:
        """Forward, loss and backward; the gradients that are there afterwards do not count.

        `offloaded`: What autograd keeps of the forward is elsewhere.
        """
        denoiser = self.policy.denoiser
        before = denoiser.is_gradient_checkpointing
        with self.world:
            _checkpoint(denoiser, checkpointing)
            for parameter in self.trained:
                parameter.grad = None if self.gathering else torch.zeros_like(parameter)
            x, following = self._latents(batch), self._latents(batch)
            try:
                return self._peak(lambda: self._learn(x, following, batch, offloaded))
            finally:
                _checkpoint(denoiser, before)
                for parameter in self.trained:
                    parameter.grad = None

    def decode(self, batch: int) -> int:
        """From latents to images."""
        with self.world:
            x = self._latents(batch)
            return self._peak(lambda: self.policy.decode(x))

    def encode(self) -> int:
        """The references of one task."""
        images = [Image.new("RGB", (width, height)) for height, width in self.references]
        with self.world, torch.no_grad():
            return self._peak(lambda: self.policy.encode_references(images))

    def _learn(self, x: Tensor, following: Tensor, batch: int, offloaded: bool) -> None:
        with saved_tensors_hooks(_leave, _fetch) if offloaded else nullcontext():
            v = self._velocity(x, batch)
        mean = x + v
        if self.against_reference:
            with torch.no_grad(), self.policy.adapter_disabled():
                reference = x + self._velocity(x, batch)
            mean = mean - reference
        loss = (following - mean).square().mean()
        # An edge, as torch would switch function modes off inside the backward pass of a tensor.
        edge = torch.autograd.graph.get_gradient_edge(loss)
        torch.autograd.backward(edge, torch.ones_like(loss))

    def _latents(self, batch: int) -> Tensor:
        return torch.zeros(batch, *self.policy.latent_shape)

    def _velocity(self, x: Tensor, batch: int) -> Tensor:
        return self.policy.velocity(x, SIGMA, self.condition.repeat(batch))

    def _peak(self, run: Callable[[], object]) -> int:
        with Tracker() as tracker, self.gathering or nullcontext():
            tracker.know([*self._standing()])
            run()
        return tracker.peak

    def _standing(self) -> list[Tensor]:
        """Weights and gradients, which operations in place return."""
        modules = [p for p in self.policy.pipeline.components.values() if isinstance(p, nn.Module)]
        weights = [w for module in modules for w in (*module.parameters(), *module.buffers())]
        return [*weights, *(p.grad for p in self.trained if p.grad is not None)]


def _leave(tensor: Tensor) -> tuple[torch.Size, torch.dtype]:
    return tensor.shape, tensor.dtype


def _fetch(kept: tuple[torch.Size, torch.dtype]) -> Tensor:
    return torch.empty(kept[0], dtype=kept[1])


def _checkpoint(denoiser: Any, on: bool) -> None:
    if on:
        denoiser.enable_gradient_checkpointing()
    else:
        denoiser.disable_gradient_checkpointing()
