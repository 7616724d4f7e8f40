"""One policy without weights, and what its micro-batches need at any size."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache, cached_property
from typing import Any, Literal

from likewise.footprint.fake import Weightless
from likewise.footprint.gathering import Gathering
from likewise.footprint.peaks import Peaks, Size
from likewise.footprint.tracker import Tracker
from likewise.footprint.weight_bytes import storage_bytes

Phase = Literal["rollout", "decode", "update", "checkpointed", "offloaded"]


class Traced:
    """Everything in bytes.

    Args:
        make: Builds the policy, without an adapter; called inside the world without weights.
        adapt: Makes it trainable.
        references: Height and width in pixels of each reference of a task.
        batch: Images of the largest micro-batch that will be asked about.
        against_reference: Whether an update compares with the frozen model (KL).
        like_cuda: See :class:`Weightless`.
        copy_size: Processes that share a copy of the denoiser. From shards, weights reach the
            forward in the policy's dtype: autocast makes no copies of them.

    Attributes:
        trained: Of the trained parameters.
        reference: Of the frozen copy that full fine-tuning keeps.
        condition: Of one encoded task.
        latents: Of one image's latents.
    """

    def __init__(
        self,
        make: Callable[[], Any],
        adapt: Callable[[Any], None],
        references: Sequence[Size],
        batch: int,
        against_reference: bool,
        like_cuda: bool,
        copy_size: int = 1,
    ) -> None:
        self.batch = batch
        world = Weightless(like_cuda)
        with world:
            self.policy = make()
            with Tracker() as tracker:
                adapt(self.policy)
            parameters = self.policy.trainable_parameters()
        self.trained = storage_bytes(parameters)
        self.reference = tracker.live - self.trained
        gathering = None
        if copy_size > 1:
            with world:
                for one in self.policy.denoiser.parameters():
                    one.data = one.data.to(self.policy.dtype)
            gathering = Gathering(self.policy.denoiser, copy_size, like_cuda)
        self.peaks = Peaks(self.policy, references, against_reference, world, gathering)
        self.condition = _condition_bytes(self.peaks.condition.tasks[0])
        self.latents = 4
        for side in self.policy.latent_shape:
            self.latents *= side
        self._peak = cache(self._trace)

    def at(self, phase: Phase, batch: int) -> int:
        """What a batch of so many images needs, at most `self.batch`.

        Between one and all it is on the straight line: a peak is the largest of several amounts
        that each grow in proportion, so the line may lie above the truth, but not below it.
        """
        if batch in (1, self.batch):
            return self._peak(phase, batch)
        one, most = self._peak(phase, 1), self._peak(phase, self.batch)
        return one + (most - one) * (batch - 1) // (self.batch - 1)

    @cached_property
    def encode(self) -> int:
        """What the references of one task need on their way to embeddings."""
        return self.peaks.encode()

    def _trace(self, phase: Phase, batch: int) -> int:
        if phase == "rollout":
            return self.peaks.rollout(batch)
        if phase == "decode":
            return self.peaks.decode(batch)
        return self.peaks.update(batch, phase != "update", phase == "offloaded")


def _condition_bytes(task: Any) -> int:
    parts = (task.text, *task.references, task.negative or {})
    return storage_bytes(tensor for part in parts for tensor in part.values())
