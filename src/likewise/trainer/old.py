"""The old policy of objectives on finished images: the weights that `v_old` comes from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor, nn

from likewise.config.objectives import Average, OnPolicy
from likewise.sharding.lockstep import Lockstep


class OldWeights:
    """Weights that an iteration begins with, or their slow average.

    Attributes:
        weights: Like the parameters, float32.
        iterations: How many are finished.
        is_current: Whether they are the parameters' own values, so that a forward without gradient
            would only repeat the one with it.
    """

    def __init__(
        self,
        parameters: Sequence[nn.Parameter],
        settings: OnPolicy | Average,
        lockstep: Lockstep | None = None,
    ) -> None:
        """`lockstep`: Where the parameters are shards."""
        self.parameters, self.settings, self.lockstep = parameters, settings, lockstep
        if lockstep is not None:
            lockstep.contexts["old"] = self.applied
        self.weights: list[Tensor] = [one.detach().clone() for one in parameters]
        self.iterations = 0
        self.is_current = True

    @property
    def draws(self) -> bool:
        """Whether it is the old policy that draws images, not the newest one."""
        return isinstance(self.settings, Average)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Within this context the parameters hold the old weights."""
        if self.is_current:
            yield
            return
        own = [one.detach().clone() for one in self.parameters]
        _copy(self.weights, self.parameters)
        try:
            with ExitStack() as stack:
                if self.lockstep is not None:
                    stack.enter_context(self.lockstep.holding("old"))
                yield
        finally:
            _copy(own, self.parameters)

    def after_step(self) -> None:
        """The parameters have moved on."""
        self.is_current = False

    def after_iteration(self) -> None:
        """The next iteration's old weights: old ← η·old + (1 − η)·new."""
        self.iterations += 1
        share = 0.0
        if isinstance(self.settings, Average):
            share = min(self.settings.rate * self.iterations, self.settings.most)
        if share == 0.0:
            _copy(self.parameters, self.weights)
        else:
            for old, new in zip(self.weights, self.parameters, strict=True):
                old.mul_(share).add_(new.detach(), alpha=1 - share)
        self.is_current = share == 0.0

    def restore(self, weights: Sequence[Tensor] | None, iterations: int) -> None:
        """Go on from stored weights; None: from the parameters, as on-policy runs do."""
        self.iterations = iterations
        _copy(self.parameters if weights is None else weights, self.weights)
        self.is_current = weights is None


@torch.no_grad()
def _copy(source: Sequence[Tensor], target: Sequence[Tensor]) -> None:
    for one, other in zip(source, target, strict=True):
        other.copy_(one)
