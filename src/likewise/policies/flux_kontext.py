"""FLUX.1-Kontext-dev, and every other ``FluxKontextPipeline`` directory: the nano is one.

The reference's VAE tokens follow the image's own in the sequence, with index 1 in their
position ids; the velocity is the transformer's output on the image's tokens (Labs et al.,
2506.15742; docs/method.md §4).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from diffusers import FluxKontextPipeline
from PIL.Image import Image
from torch import Tensor

from likewise.policies.common.encoded import EncodedTask, Tensors
from likewise.policies.flux.policy import LONGEST_TEXT, FluxPolicy
from likewise.policies.flux.tokens import Grid, position_ids, reference_size


class FluxKontextPolicy(FluxPolicy):
    """Implements :class:`likewise.protocols.Policy` on a ``FluxKontextPipeline``.

    Args:
        pipeline, height, width, max_sequence_length, options: See :class:`FluxPolicy`.
        auto_resize: Take references at Kontext's preferred resolutions (about 1 MP), not at their
            own size.
    """

    pipeline_classes = (FluxKontextPipeline,)

    def __init__(
        self,
        pipeline: FluxKontextPipeline,
        height: int,
        width: int,
        max_sequence_length: int = LONGEST_TEXT,
        *,
        auto_resize: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(pipeline, height, width, max_sequence_length, **options)
        self.auto_resize = auto_resize

    def encode_references(self, references: Sequence[Image]) -> tuple[Tensors, ...]:
        sizes = [self._size(image.height, image.width) for image in references]
        return tuple(
            self.encode_image(image, *size) for image, size in zip(references, sizes, strict=True)
        )

    def blank_task(self, references: Sequence[tuple[int, int]]) -> EncodedTask:
        return self.blank(tuple(self.blank_tokens(*self._size(*size)) for size in references))

    def reference_ids(self, grids: Sequence[Grid]) -> list[Tensor]:
        """The same rows and columns as the image's, with another index."""
        return [position_ids(grid, 1) for grid in grids]

    def _size(self, height: int, width: int) -> Grid:
        return reference_size(height, width, self.multiple, self.auto_resize)
