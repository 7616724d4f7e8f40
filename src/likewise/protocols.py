"""What the method asks of its plug-ins. Anything with these methods fits; nothing to inherit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

    from likewise.types import Task


@runtime_checkable
class Reward(Protocol):
    """Scores pictures, each for its own task. Higher is better."""

    def score(self, images: Sequence[Image], tasks: Sequence[Task]) -> tuple[Tensor, Tensor]:
        """Score each picture for the task at the same position, independently of the others.

        Returns:
            values: float32 [B].
            valid: bool [B]; false where this reward has nothing to say about a task. The value
                there is meaningless and must not be used.

        Raises:
            ValueError: something is not an RGB picture, or the lengths differ.
        """
        ...
