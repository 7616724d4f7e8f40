"""UNO on FLUX.1-dev: several references of any size, beside the image on its diagonal.

The references' VAE tokens follow the image's own in the sequence; their rows and columns go on
where the image's end. A LoRA taught the model to read them (Wu et al., 2504.02160;
docs/method.md §4).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from diffusers import FluxPipeline
from PIL.Image import Image
from torch import Tensor

from likewise.policies.common.encoded import EncodedTask, Tensors
from likewise.policies.flux.policy import LONGEST_TEXT, FluxPolicy
from likewise.policies.flux.tokens import Grid
from likewise.policies.flux.uno_layout import diagonal_ids, fitted, fitted_size, longer_side
from likewise.policies.flux.uno_lora import convert, keep, merge, read


class FluxUnoPolicy(FluxPolicy):
    """Implements :class:`likewise.protocols.Policy` on a ``FluxPipeline``.

    UNO's LoRA is a part of the frozen model: the reference of :meth:`adapter_disabled` has it, and
    :meth:`save_adapter` does not write it.

    Args:
        pipeline, height, width, max_sequence_length, options: See :class:`FluxPolicy`.
        reference_size: Pixels of the longer side of every reference; None: 512 where a task has
            one, 320 where it has several (UNO). Both sides are then cropped to multiples of 16.
        uno_lora: UNO's LoRA as it was published: a safetensors file, or a Hub file named
            owner/repository/file. None where the pipeline's weights have it already.
        merge_uno: Add it to the weights, once and for good; otherwise it is kept beside them, in
            the policy's dtype: about a third more work in attention, but any quantised base will
            do.

    Raises:
        ValueError: a number is out of its range, or the LoRA does not fit the transformer.
    """

    pipeline_classes = (FluxPipeline,)
    max_references = 4  # as many as UNO's own demo takes
    lora_presets: ClassVar[Mapping[str, str]] = {
        **FluxPolicy.lora_presets,
        "uno": r".*transformer_blocks\.\d+\.(attn\.(to_[qkv]|to_out\.0|add_[qkv]_proj|to_add_out)"
        r"|proj_out)",  # what UNO's own LoRA adapts, and the paper's
    }

    def __init__(
        self,
        pipeline: FluxPipeline,
        height: int,
        width: int,
        max_sequence_length: int = LONGEST_TEXT,
        *,
        reference_size: int | None = None,
        uno_lora: str | Path | None = None,
        merge_uno: bool = True,
        **options: Any,
    ) -> None:
        super().__init__(pipeline, height, width, max_sequence_length, **options)
        if reference_size is not None and reference_size < self.multiple:
            raise ValueError(
                f"reference_size must be at least {self.multiple}, not {reference_size}"
            )
        self.reference_size = reference_size
        if uno_lora is None:
            return
        updates = convert(read(uno_lora), self.denoiser)
        if merge_uno:
            merge(self.denoiser, updates)
        else:
            keep(self.denoiser, updates, self.dtype)

    def encode_references(self, references: Sequence[Image]) -> tuple[Tensors, ...]:
        longest = longer_side(len(references), self.reference_size)
        images = [fitted(image, longest, self.multiple) for image in references]
        return tuple(self.encode_image(one, one.height, one.width) for one in images)

    def blank_task(self, references: Sequence[tuple[int, int]]) -> EncodedTask:
        longest = longer_side(len(references), self.reference_size)
        sizes = [fitted_size(*size, longest, self.multiple) for size in references]
        return self.blank(tuple(self.blank_tokens(*size) for size in sizes))

    def reference_ids(self, grids: Sequence[Grid]) -> list[Tensor]:
        return diagonal_ids(self.grid, grids)
